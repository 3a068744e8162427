"""``fit``, ``validate``, ``test`` and ``predict``: LightningCLI with our defaults and folders."""

import logging
import os
import sys
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from pydoc import locate
from typing import Any

import yaml
from jsonargparse import Namespace, lazy_instance
from jsonargparse.typing import restricted_number_type
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.cli import ArgsType, LightningArgumentParser, LightningCLI

from cifar_lightning.callbacks import Bar, CallbackList, Dashboard, EpochLine, RunSummary, Speed
from cifar_lightning.callbacks.collector import Collector
from cifar_lightning.classifier import ImageClassifier
from cifar_lightning.cli import checks, evaluate, part_checks
from cifar_lightning.cli.arguments import Arguments
from cifar_lightning.cli.as_trained import check_as_trained
from cifar_lightning.cli.callbacks import Patience, check_callbacks, check_kinds, has_bar
from cifar_lightning.cli.config_file import check_all_yaml
from cifar_lightning.cli.construction import Constructed
from cifar_lightning.cli.effects import check_options
from cifar_lightning.cli.fit import Start, fit
from cifar_lightning.cli.messages import quiet_lightning
from cifar_lightning.cli.numerics import be_deterministic, choose_formats, offer_auto, resolved
from cifar_lightning.cli.parser import Parser
from cifar_lightning.cli.resume import OptimizerChanges, differences, is_finished
from cifar_lightning.cli.trackers import as_list, going_on
from cifar_lightning.commands.predictions import Pictures
from cifar_lightning.data import CIFAR10, CIFAR10DataModule
from cifar_lightning.errors import answered, process_number
from cifar_lightning.models import AlexNet
from cifar_lightning.processes.launch import launch
from cifar_lightning.runs.checkpoint_io import DurableCheckpointIO
from cifar_lightning.runs.checkpoints import Checkpoints
from cifar_lightning.runs.folders import LoadedCheckpoint, logs_folder, weights_file

log = logging.getLogger(__name__)

DEFAULT_SEED = 42
_SEED = restricted_number_type("Seed", int, [(">=", 0), ("<=", 2**32 - 1)])  # NumPy's range


# a default of a class, as of Timer's interval
yaml.SafeDumper.add_multi_representer(Enum, lambda dumper, of: dumper.represent_data(of.value))


def _trainer_defaults() -> dict[str, Any]:
    return {
        "max_epochs": 20,
        # Lightning's default is all there are, but several are for those who ask for them:
        # torchrun has been asked
        "devices": int(os.environ.get("LOCAL_WORLD_SIZE", "1")),
        "num_nodes": int(os.environ.get("GROUP_WORLD_SIZE", "1")),
        "enable_model_summary": False,
    }


class CLI(LightningCLI):
    """The commands of one classifier on one data module."""

    def __init__(self, arguments: Arguments) -> None:
        self._arguments = arguments
        self.found: LoadedCheckpoint | None = None
        self.changes: dict[str, tuple[Any, Any]] = {}
        self.pictures: Pictures | None = None
        self._constructed = Constructed()
        super().__init__(
            ImageClassifier,
            CIFAR10DataModule,
            # config.yaml is written by fit: Lightning's callback fails in a folder that has one
            save_config_callback=None,
            trainer_defaults=_trainer_defaults(),
            auto_configure_optimizers=False,
            parser_class=Parser,
            parser_kwargs={"prog": "cifar_lightning", "description": __doc__},
        )

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """The commands, and the arguments of Lightning's methods that are no flags: checkpoints
        are read with weights_only whatever one asks for, predictions are always written, and test
        prints its own table. Where a command is asked for that one alone: a parser for each takes a
        tenth of a second."""
        own = {"weights_only", "return_predictions", "verbose"}
        there = {name: skipped | own for name, skipped in LightningCLI.subcommands().items()}
        asked = [word for word in sys.argv[1:] if word in there]
        return {name: there[name] for name in asked[:1]} or there

    def add_default_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument("--seed_everything", type=_SEED, default=DEFAULT_SEED)

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_lightning_class_args(Checkpoints, "checkpoints")
        # int: a restricted number cannot be written to a config file
        parser.link_arguments("seed_everything", "data.seed", compute_fn=int)
        for target in ("model.net.init_args.num_classes", "model.num_classes"):
            parser.link_arguments("data.num_classes", target, apply_on="instantiate")
        parser.set_defaults(
            {"model.net": lazy_instance(AlexNet), "data.source": lazy_instance(CIFAR10)}
        )

    def _prepare_subcommand_parser(
        self, klass: type, subcommand: str, **kwargs: Any
    ) -> LightningArgumentParser:
        parser = super()._prepare_subcommand_parser(klass, subcommand, **kwargs)
        _add_options_of(subcommand, parser)
        offer_auto(parser)
        return parser

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        check_all_yaml()
        arguments = self._arguments
        self.found = arguments.find_checkpoint()
        ours = (self.found and self.found.ours) or {}
        self._constructed.prepare(arguments.value_of, ours)
        with part_checks.answered(arguments.settings, ours.get("config") or {}):
            self.config = parser.parse_args(arguments.after_checkpoint(self.found))
        trainer = self.config[self.config.subcommand].trainer
        trainer.precision = resolved(trainer.precision, trainer.accelerator, ours.get("config"))
        callbacks = as_list(self.config.as_dict()[self.config.subcommand]["trainer"]["callbacks"])
        kinds = (locate(callback["class_path"]) for callback in callbacks)
        check_kinds(kind for kind in kinds if isinstance(kind, type))
        plain = self.plain_config()
        part_checks.check_all_complete(plain, arguments.settings)
        check_options(plain, arguments, self.found)
        if arguments.command is None:
            return
        config = self.config[arguments.command]
        if self.found is None:
            _settle_weights(config)
            return
        config.ckpt_path = str(self.found.path)
        if arguments.command == "fit":
            self.changes = differences(self.found, self.plain_config(), arguments)
            return
        images = config.data.pop("images", None)
        check_as_trained(self.found, self.plain_config(), arguments, images is not None)
        if images is not None:
            self.pictures = Pictures(images, self.found)
            config.data.source = _names_alone(self.pictures)

    def _parse_ckpt_path(self) -> None:
        """Lightning lets the checkpoint's hyper-parameters win over the command line here."""

    def plain_config(self) -> dict[str, Any]:
        """The configuration of the command, as it would stand in a config file."""
        command = self.config.subcommand
        text = self._parser(command).dump(self.config[command], skip_none=False)
        plain: dict[str, Any] = yaml.safe_load(text)
        return plain

    def instantiate_classes(self) -> None:
        config = self.config[self.subcommand].as_dict()
        self._constructed.watch(self.parser, config)
        asked = self.config
        try:
            self.config = going_on(asked, self.plain_config(), self.found)
            super().instantiate_classes()
        except Exception as error:
            self._constructed.answer(error, config, self._arguments.settings)
        finally:
            self.config = asked  # where they go on is no part of what was asked for
        _write_down(self.config[self.subcommand], self.model, self.datamodule, self.trainer)
        checks.check_together(self.trainer, self.model, self.datamodule, config, self.found)

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        config = self.config_init[self.subcommand].trainer
        asked, plugins = as_list(config.callbacks), as_list(config.plugins)
        own_bar = has_bar(asked)
        bar = config.enable_progress_bar is not False and sys.stdout.isatty() and not own_bar
        callbacks: list[Callback] = [Bar()] if bar else []
        if self.subcommand == "fit":
            self.dashboard = self.config_init.fit.dashboard.callbacks(self.datamodule)
            own: list[Callback] = [EpochLine(), Speed(), RunSummary()]
            own += [OptimizerChanges(self.changes), Patience(asked), *self.dashboard]
            # before the bar: the last epoch's line is printed before the bar is closed
            callbacks.insert(0, CallbackList(own))
            ours = [*own, self.config_init.fit.checkpoints]
            spans_run = checks.schedule_spans_run(self.config.fit.as_dict()["model"])
            check_callbacks(asked, ours, config, spans_run)
        else:
            self.collector = Collector()
            callbacks.append(self.collector)
            check_callbacks(asked, callbacks, config)
        self.trainer_defaults = {"callbacks": callbacks}
        trainer = super().instantiate_trainer(
            plugins=[*plugins, DurableCheckpointIO()],
            # the loggers of a run need its folder, which is made when its data are there
            logger=as_list(config.logger),
            enable_progress_bar=bar or own_bar,
            sync_batchnorm=checks.has_batch_norm(self.model),
            **kwargs,
        )
        return be_deterministic(trainer, config.deterministic)

    def _run_subcommand(self, subcommand: str) -> None:
        begun = self.found if subcommand == "fit" else None
        if begun is not None and is_finished(begun, self.trainer):
            return
        with launch(self.trainer), answered(self.run_folder):
            super()._run_subcommand(subcommand)

    def run_folder(self) -> Path | None:
        """The folder of the run that the command is about, once it has one."""
        ours = checks.checkpoints_of(self.trainer).run if self.subcommand == "fit" else None
        return ours or (self.found and self.found.run)

    def start(self) -> Start:
        """What a run begins with."""
        logs = logs_folder(self.config[self.subcommand].trainer.default_root_dir)
        return Start(self.plain_config(), logs, self.found, self.changes)

    def fit(self, model: ImageClassifier, **kwargs: Any) -> None:
        fit(self.trainer, model, self.datamodule, self.start())

    def validate(self, model: ImageClassifier, **kwargs: Any) -> None:
        evaluate.validate(self.trainer, model, self.evaluation())

    def test(self, model: ImageClassifier, **kwargs: Any) -> None:
        evaluate.test(self.trainer, model, self.evaluation())

    def predict(self, model: ImageClassifier, **kwargs: Any) -> None:
        evaluate.predict(self.trainer, model, self.evaluation())

    def evaluation(self) -> evaluate.Evaluation:
        """What validate, test or predict is about."""
        assert self.found is not None
        asked = self.found, self.plain_config(), self.datamodule, self.collector, self.pictures
        return evaluate.Evaluation(*asked)


def _write_down(
    config: Namespace, model: ImageClassifier, data: CIFAR10DataModule, trainer: Trainer
) -> None:
    """What "auto" has become, and the number of classes: a resumed run goes on with the same, and
    load_from_checkpoint does without the data."""
    model.computing.adapt(model.net, trainer.strategy.root_device, str(trainer.precision))
    config.data.val_size, hparams = data.val_size, model.hparams
    config.model.memory_format = hparams["memory_format"] = model.computing.memory_format
    of_net = hparams["net"].get("init_args", {})
    hparams["net"]["init_args"] = {**of_net, "num_classes": data.num_classes}
    hparams["num_classes"] = data.num_classes


def _names_alone(pictures: Pictures) -> Namespace:
    """A source that knows the classes of a checkpoint: the data that it was trained on may be
    gone."""
    names = Namespace(names=pictures.class_names)
    return Namespace(class_path="cifar_lightning.data.source.ClassNames", init_args=names)


def _settle_weights(config: Namespace) -> None:
    """Put the file that ``best`` or ``last`` means now in the place of the word."""
    if config.model.weights is not None:
        logs = logs_folder(config.trainer.default_root_dir)
        config.model.weights = weights_file(config.model.weights, logs)


def _add_options_of(command: str, parser: LightningArgumentParser) -> None:
    """Those that not all commands have."""
    if command == "fit":
        parser.add_class_arguments(Dashboard, "dashboard")
        parser.add_argument("--run_name", type=str | None)
    else:
        # Lightning's default is the untrained network
        parser.set_defaults(ckpt_path="best")
    if command == "predict":
        parser.add_argument("--data.images", type=str, nargs="+")
        parser.add_argument("--to", type=str | None)


def run() -> CLI:
    """Run the command that ``sys.argv`` names. Returns what has run it.

    Raises:
        UserError: it cannot be run.
    """
    quiet_lightning()
    if process_number() > 0:  # all processes would say the same
        logging.getLogger("cifar_lightning").setLevel(logging.ERROR)
    choose_formats()
    return start(CLI)


def start(command: Callable[[Arguments], CLI]) -> CLI:
    """Run what ``sys.argv`` names. Raises UserError."""
    arguments = Arguments(sys.argv[1:], CLI.subcommands())
    with arguments.answered():
        return command(arguments)
