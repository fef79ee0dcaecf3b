# Cambridge Landmarks, ShopFacade.
_base_ = ["./rap_cambridge_college.py"]

data_root = "data/cambridge/ShopFacade"
train_dataloader = dict(dataset=dict(data_root=data_root, exclude_train=[35, 42]))
test_dataloader = dict(dataset=dict(data_root=data_root, exclude_train=[35, 42]))
val_dataloader = dict(dataset=dict(data_root=data_root, exclude_train=[35, 42]))
default_hooks = dict(view_synthesis=dict(map="work_dirs/maps/cambridge_shop/scene.ply"))
