# rap_toytown_cpu.py with views synthesised where the network is weak and the map is observable. A
# tenth of the mapped photographs is kept out of training and guards against harm.
_base_ = ["./rap_toytown_cpu.py"]

selection_every = 10
train_dataloader = dict(dataset=dict(selection_every=selection_every))
val_dataloader = dict(dataset=dict(split="selection", selection_every=selection_every))
train_cfg = dict(val_interval=5)
default_hooks = dict(
    view_synthesis=dict(
        budget=dict(
            type="ValueBudget",
            power=1.0,  # 0: by observability alone
            floor=0.25,  # share of the views that all photographs get alike
            min_observability=0.5,  # of a view, else it is refused; 0 refuses none
            observability=dict(min_views=2, tolerance=0.1, stride=4),
            monitor="pose/median_trans",  # None: no guard
            tolerance=0.05,
            patience=2,
        )
    )
)
