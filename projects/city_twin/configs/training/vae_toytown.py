# The small autoencoder of street clips, shorter than in its own config.
_base_ = ["../../../../configs/dynamiccity/dynamiccity_vae_toytown_cpu.py"]
