"""What other libraries call the fields of a plan, so that an error can name the field that is meant.

Only errors read this table: a plan itself knows each field by one name.
"""

import difflib
import re
from collections.abc import Collection

from workbench.errors import QUESTION

_FIELD: dict[str, str] = {  # name in the Trainer, PEFT, Keras, Lightning, scikit-learn … -> field of a plan
    name: field
    for field, names in {
        "accumulation_steps": "gradient_accumulation_steps grad_accum accumulate_grad_batches",
        "backbone": "model model_name model_name_or_path model_id pretrained_model base_model checkpoint",
        "batch_size": "bs batch per_device_train_batch_size train_batch_size per_device_batch_size",
        "batching": "group_by_length shuffle",
        "checkpoint_every": "save_steps save_every",
        "clip_norm": "max_grad_norm gradient_clip_val clip gradient_clipping clipnorm",
        "device": "accelerator gpu use_cpu no_cuda",
        "dropout": "hidden_dropout_prob attention_dropout classifier_dropout dropout_rate",
        "epochs": "num_train_epochs n_epochs num_epochs nb_epoch max_epochs epoch",
        "evaluate_every": "eval_steps eval_every evaluation_strategy eval_strategy val_check_interval",
        "evaluation_rows": "limit_val_batches max_eval_samples",
        "group_column": "group groups",
        "image_size": "img_size resolution input_size",
        "keep_last": "save_total_limit save_top_k",
        "label_column": "label labels target target_column y",
        "learning_rate": "lr rate step_size base_lr max_lr",
        "lora_alpha": "alpha",
        "lora_dropout": "peft_dropout",
        "lora_rank": "r rank lora_r",
        "max_length": "max_seq_length max_seq_len max_len seq_length sequence_length block_size context_length",
        "max_rows": "max_samples max_train_samples n_rows sample_size",
        "max_steps": "steps num_steps total_steps num_training_steps",
        "method": "lora peft use_lora use_peft adapter peft_type",
        "precision": "fp16 bf16 fp32 amp mixed_precision dtype torch_dtype",
        "save_model": "load_best_model_at_end save_best_only save_best",
        "schedule": "lr_scheduler_type scheduler lr_scheduler lr_schedule",
        "seed": "random_state random_seed data_seed",
        "source": "dataset dataset_name data path file csv train_file data_files",
        "stop_metric": "metric_for_best_model monitor metric",
        "stop_min_delta": "early_stopping_threshold min_delta",
        "stop_mode": "greater_is_better",
        "stop_patience": "early_stopping_patience patience early_stopping n_iter_no_change",
        "test_fraction": "test_size test_split",
        "text_separator": "separator sep",
        "text_column": "text sentence text_field dataset_text_field x",
        "trainable": "freeze unfreeze frozen freeze_layers unfrozen layers trainable_layers num_layers last_n",
        "unfreeze_to": "gradual_unfreezing progressive_unfreezing",
        "validation_fraction": "val_split validation_split val_size eval_split valid_pct val_fraction",
        "warmup_fraction": "warmup_ratio warmup_steps warmup num_warmup_steps",
        "weight_decay": "wd l2 decay weightdecay",
        "window_overlap": "stride overlap",
    }.items()
    for name in names.split()
}
_MISSING: dict[str, str] = {  # what people look for, and a plan does not have -> what to do
    "class_weight": "there are no class weights: keep more rows of the rare class, and use stop_metric='macro_f1'",
    "label_smoothing": "the loss is always the plain cross-entropy, so that its nats can be compared",
    "num_labels": "the classes are counted in the label column",
    "optimizer": "the optimizer is always AdamW",
    "output_dir": "give the folder to the session: Session(plan, runs='folder')",
}
_MISSING |= {
    other: _MISSING[name]
    for name, others in {
        "class_weight": "class_weights sample_weight pos_weight",
        "label_smoothing": "label_smoothing_factor",
        "num_labels": "n_classes num_classes",
        "optimizer": "optim adam_beta1 adam_beta2 adam_epsilon momentum",
        "output_dir": "logging_dir save_dir runs",
    }.items()
    for other in others.split()
}


def meant(name: str, fields: Collection[str]) -> str:
    """Return a hint for the unknown name of a field: the field that is called so elsewhere, or the nearest ones."""
    key = re.sub(r"[\s-]+", "_", name.strip().lower())
    if key in _MISSING:
        return _MISSING[key]
    if _FIELD.get(key) in fields:
        return f"{QUESTION} {_FIELD[key]!r}?"
    close = difflib.get_close_matches(key, fields, n=3)
    others = difflib.get_close_matches(key, _FIELD, n=1, cutoff=0.8)
    close += [_FIELD[other] for other in others if _FIELD[other] in fields]
    names = " or ".join(map(repr, dict.fromkeys(close)))
    return f"{QUESTION} {names}?" if names else "see help(wb.Plan), which names every field"
