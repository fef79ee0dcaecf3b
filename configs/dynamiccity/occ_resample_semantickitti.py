# Floor for dynamiccity_vae_semantickitti_cpu.py: plain down- and up-sampling of the clips. Of all
# factors of 32 and ways to pool these lose least on the test sequence. Nothing is trained:
#   python tools/test.py configs/dynamiccity/occ_resample_semantickitti.py
_base_ = ["./dynamiccity_vae_semantickitti_cpu.py"]

model = dict(_delete_=True, type="OccResampler", factors=(2, 4, 4, 1), pool="occupied")
