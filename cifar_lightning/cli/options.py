"""The options that each command offers, in this program's words: what ``COMMAND --help`` prints.

A key is an option as help prints it: its name, and what stands for its value. Defaults are not
written here: help takes them from the parser. An option of the parser is in ``OPTIONS``, or in
``hidden.HIDDEN`` with the reason why it is not offered. None is without effect and without a word.
"""

Options = dict[str, str]
Groups = dict[str, Options]


INTRODUCTIONS = {
    "fit": """\
Train a network. Every run has a folder of its own, lightning_logs/version_N, with its
configuration, metrics and checkpoints. Ctrl-C saves and stops; --ckpt_path last goes on.""",
    "validate": """\
Measure a checkpoint on the validation images: loss and accuracy. Network, data and seed are those
of the checkpoint.""",
    "test": """\
Measure a checkpoint on the test images, once, at the end. Prints accuracy with its 95 % confidence
interval and the precision and recall of each class; writes test_report.json and figures into the
run's folder. Network, data and seed are those of the checkpoint.""",
    "predict": """\
Classify pictures of your own, or the validation images, and write predictions.csv into the run's
folder. Network, data and seed are those of the checkpoint.""",
}

EXAMPLES = {
    "fit": [
        "fit --config quickstart",
        "fit --model.optimizer.lr 0.05 --data.flip true --trainer.max_epochs 10",
        "fit --model.net my_nets.MyNet --model.net.width 64",
        "fit --ckpt_path last --trainer.max_epochs 30",
    ],
    "validate": ["validate", "validate --ckpt_path last"],
    "test": ["test", "test --ckpt_path lightning_logs/version_3/checkpoints/last.ckpt"],
    "predict": ["predict --data.images my_pictures", "predict --ckpt_path last"],
}

# For all commands.
NAMING = """\
CLASS is a class by its name, where help says so, or by its import path: my_nets.MyNet for your own
in ./my_nets.py. Its arguments are options below it, as in --model.net.width 64; an option with
.help, as in --model.net.help my_nets.MyNet, prints all that there are.
BOOL is true or false; null unsets an option; a + as in --trainer.callbacks+ adds to a list."""

UNLISTED = """\
Options of fit that are not listed here are for a checkpoint that a script has written, which does
not hold how its network and its data were made."""

_CONFIG = {
    "config FILE": "Take options from a YAML file, or a config that comes with the program by its "
    "name: quickstart, article, fast, tuned, .... Give it again for more: what stands later wins.",
    "print_config": "Print the configuration that would run, as YAML for --config, and exit.",
    "help": "Print this and exit.",
}

_BATCH_SIZE = {
    "data.batch_size N": "Images in a batch, over all devices together; an epoch of fewer is one "
    "batch.",
}

_DEVICE = {
    "trainer.accelerator NAME": "cpu, gpu, cuda, mps, or auto for the fastest that is there.",
    "trainer.devices N": "Devices of each machine, a process each, which share every batch out; -1 "
    "for all, [1,3] for those two GPUs.",
    "trainer.num_nodes N": "Machines. Start the command on each, by torchrun or SLURM: "
    "docs/processes.md.",
    "trainer.strategy NAME": "How processes work together: auto, ddp or a variant of ddp.",
    "trainer.precision NAME": "32-true, bf16-mixed, 16-mixed (GPUs alone), bf16-true, 16-true, "
    "64-true, or auto: bf16-mixed where the hardware computes in it, else 32-true; 32-true where "
    "it is not given.",
    "trainer.deterministic BOOL": "Use algorithms that give the same bits every time, and stop "
    "where torch has none; warn, as on NVIDIA GPUs without it: say so and go on.",
}
_PLACES = {
    "trainer.default_root_dir DIR": "The folder whose lightning_logs/ holds the runs; without it "
    "the current folder.",
    "trainer.enable_progress_bar BOOL": "Show a bar; a terminal has one unless it is false, a file "
    "never. A bar among --trainer.callbacks takes its place.",
    "trainer.enable_model_summary BOOL": "Print the network's layers and their parameters.",
    "trainer.profiler NAME": "Print at the end where the time went: simple, advanced or pytorch.",
}
_LOGGER = {
    "trainer.logger CLASS": "Log to this, too: a class of pytorch_lightning.loggers by name "
    "(WandbLogger, MLFlowLogger), or your own.",
}
_LOGGER_OF_A_RUN = {
    "trainer.logger CLASS": "Log to this beside TensorBoard and metrics.csv: a class of "
    "pytorch_lightning.loggers by name (WandbLogger, MLFlowLogger), or your own. A resumed run "
    "goes on there. --trainer.logger+ adds another; false: metrics.csv alone.",
}

_FIT: Groups = {
    "The run": {
        **_CONFIG,
        "ckpt_path PATH": "Go on with a run (without it a new one starts): last, from the newest "
        "checkpoint of the newest run under lightning_logs/; best, from the one with the best "
        "validation score in that run; or from the checkpoint at a path. Flags and --config win "
        "over what the run was started with; those that would change what it has already trained "
        "are refused. From a state older than the run's newest, a new run branches off.",
        "run_name NAME": "What you call the run, in compare and TensorBoard; its folder stays "
        "version_N.",
        "seed_everything N": "Decides the initial weights, the held-out images, the order of every "
        "epoch and the augmentation.",
    },
    "Data": {
        "data.source CLASS": "Where images and labels come from: one of these, or a "
        "cifar_lightning.data.Source of your own.",
        **_BATCH_SIZE,
        "data.val_size N": "Training images held out for validation: a number, as many of each "
        "class as it goes, or a share of each (0.1); 0 validates on the test images, as the "
        "article does, null on nothing. auto: the source's own validation images if it has any, "
        "else 5000 of CIFAR-10 and 0.1 of other sources.",
        "data.mean [R,G,B]": "Subtracted from the channels, whose pixels go from 0 to 1.",
        "data.std [R,G,B]": "The channels are divided by it after that.",
        "data.flip CHOICE": "Mirror training images: true, at random; alternating, in every other "
        "epoch.",
        "data.translate N": "Shift training images by up to N pixels in each direction, reflected "
        "at the edge; 0 for none.",
        "data.cutout N": "Blank a square of N pixels a side in each training image; 0 for none.",
        "data.jitter X": "Change each training image's brightness, contrast and saturation by up "
        "to X of it.",
    },
    "Model": {
        "model.net CLASS": "The network: one of these, or an nn.Module of your own, from images "
        "N×3×H×W to logits N×K. It must take the number of classes K as num_classes, which it is "
        "given from the data.",
        "model.loss CLASS": "An nn.Module from logits N×K and labels N to a mean over the images, "
        "such as my_losses.Focal; without it cross-entropy.",
        "model.label_smoothing X": "Share of each label that cross-entropy spreads evenly over all "
        "classes; for the default loss alone.",
        "model.metrics CLASS": "A further metric, a class of torchmetrics or your own that is made "
        "from the number of classes, such as torchmetrics.classification.MulticlassF1Score; logged "
        "as val/<class> and test/<class>, several of one class by the arguments that tell them "
        "apart. --model.metrics+ adds another.",
        "model.weights PATH": "Start a new run from these weights: a checkpoint, best or last of "
        "the newest run, a saved state_dict, or a .safetensors file. What has the same name and "
        "shape is taken over; for other classes the last layer starts fresh.",
        "model.initialisation NAME": "Initial weights: default as PyTorch draws them, kaiming for "
        "layers with ReLUs.",
        "model.optimizer CLASS": "Any of torch.optim by name (SGD, Adam, AdamW), or your own. "
        "Biases and the scales of normalisation are not decayed.",
        "model.lr_scheduler CLASS": "The learning-rate schedule: any of torch.optim.lr_scheduler "
        "by name, or your own; without it the rate is constant.",
        "model.lr_scheduler_interval NAME": "Step the schedule after each epoch or each step.",
        "model.warmup X": "Share of the run's steps in which the learning rate first rises from "
        "nearly 0; needs a schedule with the interval step.",
        "model.memory_format NAME": "Keep images and weights in memory as channels_last or "
        "contiguous (channels first); auto: as is fastest on this device.",
        "model.compile MODE": "Have torch.compile make the network's code, a minute before the "
        "first step: default, reduce-overhead or max-autotune; without it no compiling.",
    },
    "Checkpoints": {
        "checkpoints.every_seconds X": "Write last.ckpt this often, beside the end of every epoch.",
        "checkpoints.monitor NAME": "What makes an epoch the best, whose checkpoint is kept: the "
        "highest val/acc or the lowest val/loss.",
    },
    "Dashboard (tensorboard --logdir lightning_logs)": {
        "dashboard.layout BOOL": "Charts with training and validation together.",
        "dashboard.gradient_norm BOOL": "The norm of the gradients at every logged step.",
        "dashboard.class_accuracy BOOL": "The validation accuracy of each class.",
        "dashboard.pictures_every_n_epochs N": "Confusion matrix, mistakes, calibration, filters "
        "and a training batch every N epochs; 0 for none.",
        "dashboard.card BOOL": "What the run is: command, versions, device, commit, data, network; "
        "also card.json.",
        "dashboard.hparams BOOL": "The choices of each run against its results.",
        "dashboard.graph BOOL": "The network's graph.",
        "dashboard.histograms BOOL": "Histograms of weights and gradients, each epoch.",
    },
    "Trainer: how long": {
        "trainer.max_epochs N": "Epochs to train; -1 for no end.",
        "trainer.min_epochs N": "Epochs to train before a callback may stop the run.",
        "trainer.max_steps N": "Stop after N optimizer steps, if that is earlier; -1 for no limit.",
        "trainer.max_time DD:HH:MM:SS": "Stop after this time, if that is earlier; without it no "
        "limit.",
    },
    "Trainer: steps": {
        "trainer.accumulate_grad_batches N": "Batches whose gradients make one optimizer step.",
        "trainer.gradient_clip_val X": "Clip gradients at this size; without it they are not.",
        "trainer.gradient_clip_algorithm NAME": "Clip the norm of all gradients together (norm), "
        "or each value (value); without it norm.",
        "trainer.log_every_n_steps N": "Log training loss, accuracy and learning rate this often; "
        "without it every 50, or once an epoch of fewer.",
        "trainer.detect_anomaly BOOL": "Stop where a gradient is NaN and say which operation made "
        "it; slow.",
    },
    "Trainer: validation": {
        "trainer.check_val_every_n_epoch N": "Validate after every N epochs.",
        "trainer.val_check_interval X": "Validate within an epoch, too: after this share of it "
        "(0.25), or so many batches (100); without it at its end.",
        "trainer.num_sanity_val_steps N": "Batches to validate before training, to see that it "
        "works; -1 for all, without it 2.",
    },
    "Trainer: a part of the data, for a try": {
        "trainer.fast_dev_run BOOL": "One batch of everything, and no run's folder; a number for "
        "more.",
        "trainer.limit_train_batches X": "Train on this many batches of each epoch (100), or this "
        "share (0.1); without it on all.",
        "trainer.limit_val_batches X": "Likewise for validation; 0 for none.",
        "trainer.overfit_batches X": "Train on the same first batches in every epoch, this many or "
        "this share, and validate as many: a network that works learns them by heart.",
    },
    "Trainer: devices": _DEVICE,
    "Trainer: callbacks and loggers": {
        "trainer.callbacks CLASS": "A callback: one of these, any of pytorch_lightning.callbacks "
        "by name, or your own; --trainer.callbacks+ adds another. At work without being named: "
        "Checkpoints and Dashboard, with the options above; EpochLine and Bar, what the terminal "
        "shows; Speed; RunSummary, which writes summary.json.",
        **_LOGGER_OF_A_RUN,
        **_PLACES,
    },
}


def _evaluation(what: Options, about_trainer: Options) -> Groups:
    """The options of a command that starts from a checkpoint and trains nothing."""
    return {
        "What to run": {
            "ckpt_path PATH": "A checkpoint: its path; best, the one with the best validation "
            "score in the newest run under lightning_logs/; or last, that run's newest.",
            **what,
            "model.flip_averaging BOOL": "Average the logits of each image and its mirror image; "
            "metrics are then named apart, as in val/acc_flip_averaged.",
            **_CONFIG,
        },
        "Data": {
            "data.source CLASS": "Where images and labels come from: CIFAR10, ImageFolder, "
            "Torchvision, Shapes, or your own; fit --help explains them. Where the same images lie "
            "elsewhere now, --data.source.root DIR is enough.",
            **_BATCH_SIZE,
        },
        "Trainer": {
            **_DEVICE,
            "trainer.callbacks CLASS": "A callback of your own, or any of "
            "pytorch_lightning.callbacks by name; --trainer.callbacks+ adds another.",
            **about_trainer,
            **_PLACES,
        },
    }


_IMAGES = {
    "data.images PATH [PATH ...]": "Pictures to classify, of any size: files, and folders of "
    "files; without it the validation images.",
    "to FILE": "Write the predictions there instead of predictions.csv in the run's folder; ends "
    "in .csv or .json.",
}
_LIMIT = {
    "trainer.limit_val_batches X": "Validate this many batches (100), or this share (0.1); without "
    "it all.",
}

OPTIONS: dict[str, Groups] = {
    "fit": _FIT,
    "validate": _evaluation({}, {**_LIMIT, **_LOGGER}),
    "test": _evaluation({}, _LOGGER),
    "predict": _evaluation(_IMAGES, {}),
}
"""By command and group."""
