# The toy town with a loss from this project instead of the L1 loss.
_base_ = ["../../../configs/gaussian_splatting/3dgs_toytown_cpu.py"]

custom_imports = dict(imports=["projects.example_project.losses"])

model = dict(
    losses=dict(loss_l1=dict(type="CharbonnierLoss", loss_weight=0.8)),
)
