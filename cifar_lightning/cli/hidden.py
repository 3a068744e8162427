"""Options that the parser takes and no help offers: refused, without effect, or of no use."""

_AT_WORK: dict[str, str] = {
    "trainer.min_steps": "min_epochs says it in the unit that people think in",
    "trainer.limit_test_batches": "a report on a part would take the place of that on the whole",
    "trainer.limit_predict_batches": "what shall not be classified need not be named",
    "trainer.benchmark": "cuDNN's choice can change from run to run, and with it the bits",
    "trainer.inference_mode": "of evaluation alone, and changes nothing that one sees",
    "trainer.plugins": "internal to Lightning",
}

REFUSED: dict[str, str] = {
    "trainer.enable_checkpointing": "a run without checkpoints could not go on",
    "trainer.use_distributed_sampler": "batches are shared out among processes without a sampler",
    "trainer.barebones": "`python -m cifar_lightning bench` measures what a step costs",
    "trainer.sync_batchnorm": "batch norm is over the whole batch, however many processes share it",
    "trainer.reload_dataloaders_every_n_epochs": "the images are in memory, read once",
    "trainer.enable_autolog_hparams": "--dashboard.hparams says whether a run's choices are logged",
    "trainer.model_registry": "it belongs to a platform that this project does not use",
}
"""Options of Lightning's trainer that would change nothing here, or nothing good, and why: any
value but Lightning's default is refused."""

HIDDEN: dict[str, str] = {**_AT_WORK, **REFUSED}
"""Options that no command offers, by their reason. They still parse: configurations and checkpoints
hold every option of Lightning's trainer."""

_OF_TRAINING = (
    "model.compile",
    "trainer.max_epochs", "trainer.min_epochs", "trainer.max_steps", "trainer.min_steps",
    "trainer.max_time", "trainer.accumulate_grad_batches", "trainer.gradient_clip_val",
    "trainer.gradient_clip_algorithm", "trainer.log_every_n_steps", "trainer.detect_anomaly",
    "trainer.check_val_every_n_epoch", "trainer.val_check_interval",
    "trainer.num_sanity_val_steps", "trainer.limit_train_batches", "trainer.overfit_batches",
)  # fmt: skip
_LIMITS = {name: f"trainer.limit_{name}_batches" for name in ("val", "test", "predict")}

WITHOUT_EFFECT: dict[str, tuple[str, ...]] = {
    "fit": (_LIMITS["test"], _LIMITS["predict"], "trainer.inference_mode"),
    "validate": (*_OF_TRAINING, _LIMITS["test"], _LIMITS["predict"]),
    "test": (*_OF_TRAINING, _LIMITS["val"], _LIMITS["predict"]),
    "predict": (*_OF_TRAINING, _LIMITS["val"], _LIMITS["test"]),
}
"""By command, options that it takes because another does, with everything below them: a flag is
answered with a line. In a config file they may stand: one file serves several commands."""
