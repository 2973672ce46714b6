import torch
from torch import nn

from workbench.plan.choices import Tuning
from workbench.training.dropout import set_dropout
from workbench.training.optimizer import build_optimizer


def test_decay_touches_matrices_only_and_frozen_parameters_are_left_out():
    model = nn.Sequential(nn.Linear(4, 3), nn.LayerNorm(3), nn.Linear(3, 2))
    model[2].requires_grad_(False)
    optimizer = build_optimizer(model, Tuning(weight_decay=0.3))
    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert decay == {id(model[0].weight): 0.3, id(model[0].bias): 0.0, id(model[1].weight): 0.0, id(model[1].bias): 0.0}


def test_a_step_is_that_of_the_plain_adamw():
    torch.manual_seed(0)
    ours = nn.Linear(5, 4)
    theirs = nn.Linear(5, 4)
    theirs.load_state_dict(ours.state_dict())
    optimizer = build_optimizer(ours, Tuning(weight_decay=0.1, learning_rate=0.01))
    groups = [{"params": [theirs.weight], "weight_decay": 0.1}, {"params": [theirs.bias], "weight_decay": 0.0}]
    plain = torch.optim.AdamW(groups, lr=0.01, foreach=False)
    for _ in range(5):
        inputs = torch.randn(8, 5)
        for model, stepper in ((ours, optimizer), (theirs, plain)):
            stepper.zero_grad()
            model(inputs).square().mean().backward()
            stepper.step()
    torch.testing.assert_close(ours.weight, theirs.weight, rtol=0, atol=1e-6)


def test_dropout_reaches_modules_and_the_attributes_that_a_forward_reads():
    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention_dropout = 0.0
            self.drop = nn.Dropout(0.1)
            self.lora_dropout = nn.ModuleDict({"default": nn.Dropout(0.4)})

    model = Attention()
    assert set_dropout(model, 0.25) == ("", "drop")
    assert (model.attention_dropout, model.drop.p, model.lora_dropout["default"].p) == (0.25, 0.25, 0.4)
    assert set_dropout(nn.Linear(2, 2), 0.25) == ()
