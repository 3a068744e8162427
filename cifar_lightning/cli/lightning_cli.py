"""The commands, their defaults, and what ``--ckpt_path last`` and ``best`` stand for."""

import logging
import os
import re
import sys
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import Namespace, lazy_instance
from jsonargparse.typing import restricted_number_type
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.cli import ArgsType, LightningArgumentParser, LightningCLI
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from cifar_lightning.callbacks import (
    Bar,
    CallbackList,
    Checkpoints,
    Dashboard,
    EpochLine,
    RunSummary,
    Speed,
)
from cifar_lightning.callbacks.collector import Collector
from cifar_lightning.classifier import ImageClassifier
from cifar_lightning.cli.checks import (
    check_compiler,
    check_images,
    check_length,
    check_network,
    check_num_classes,
    check_precision,
    check_processes,
    check_trainer_arguments,
    check_weights,
    has_batch_norm,
)
from cifar_lightning.cli.parser import Parser, check_config
from cifar_lightning.cli.resume import (
    Arguments,
    OptimizerChanges,
    against_the_past,
    say_what_configs_lost,
)
from cifar_lightning.commands.predictions import (
    find_pictures,
    load_pictures,
    picture_side,
    write_answers,
    write_predictions,
)
from cifar_lightning.commands.report import table, write_report
from cifar_lightning.data import CIFAR10, CIFAR10DataModule
from cifar_lightning.errors import DivergedError, UsageError, UserError, process_number
from cifar_lightning.models import AlexNet
from cifar_lightning.processes import slurm
from cifar_lightning.processes.collectives import all_gather, broadcast
from cifar_lightning.processes.launch import together
from cifar_lightning.processes.signals import Interrupted
from cifar_lightning.runs.checkpoint_io import DurableCheckpointIO
from cifar_lightning.runs.checkpoints import FORMAT, KEY
from cifar_lightning.runs.folders import (
    LoadedCheckpoint,
    checkpoint_of_job,
    find_checkpoint,
    is_newest_run,
    open_run,
)
from cifar_lightning.runs.loggers import MetricsCSV, RunTensorBoardLogger, write_test_metrics

log = logging.getLogger(__name__)

DEFAULT_SEED = 42
_SEED = restricted_number_type("Seed", int, [(">=", 0), ("<=", 2**32 - 1)])  # NumPy's range


class CLI(LightningCLI):
    """``fit``, ``validate``, ``test`` and ``predict`` of one classifier on one data module."""

    def __init__(self) -> None:
        self.found: LoadedCheckpoint | None = None
        self.changes: dict[str, tuple[Any, Any]] = {}
        self.run: Path | None = None
        self._images: list[str] | None = None
        super().__init__(
            ImageClassifier,
            CIFAR10DataModule,
            # config.yaml is written by fit: Lightning's callback fails in a folder that has one
            save_config_callback=None,
            trainer_defaults={
                "max_epochs": 20,
                # Lightning's default is all there are, but several are for those who ask for them:
                # torchrun has been asked
                "devices": int(os.environ.get("LOCAL_WORLD_SIZE", "1")),
                "num_nodes": int(os.environ.get("GROUP_WORLD_SIZE", "1")),
                "log_every_n_steps": 50,
                "enable_model_summary": False,
            },
            auto_configure_optimizers=False,
            parser_class=Parser,
            parser_kwargs={"prog": "cifar_lightning", "description": __doc__},
        )

    # --- arguments ---

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """The commands, and the arguments of Lightning's methods that are no flags: checkpoints
        are read with weights_only whatever one asks for, predictions are always written, and test
        prints its own table."""
        own = {"weights_only", "return_predictions", "verbose"}
        return {name: skipped | own for name, skipped in LightningCLI.subcommands().items()}

    def add_default_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument(
            "--seed_everything",
            type=_SEED,
            default=DEFAULT_SEED,
            help="Decides the initial weights, the held-out images and the order of every epoch.",
        )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_lightning_class_args(Checkpoints, "checkpoints")
        # int: a restricted number cannot be written to a config file
        parser.link_arguments("seed_everything", "data.seed", compute_fn=int)
        parser.link_arguments(
            "data.num_classes", "model.net.init_args.num_classes", apply_on="instantiate"
        )
        parser.set_defaults(
            {"model.net": lazy_instance(AlexNet), "data.source": lazy_instance(CIFAR10)}
        )

    def _prepare_subcommand_parser(
        self, klass: type, subcommand: str, **kwargs: Any
    ) -> LightningArgumentParser:
        parser = super()._prepare_subcommand_parser(klass, subcommand, **kwargs)
        if subcommand == "fit":
            parser.add_class_arguments(Dashboard, "dashboard")
        else:
            if subcommand == "predict":
                parser.add_argument(
                    "--data.images",
                    type=str,
                    nargs="+",
                    help="Pictures to classify, of any size: files, and folders of files. Without "
                    "it the held-out images are.",
                )
            # Lightning's default is the untrained network
            parser.set_defaults(ckpt_path="best")
        return parser

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        self._parse(parser)
        if self.config.get("subcommand") == "predict":
            self._images = self.config.predict.data.pop("images")
            if self._images is not None:
                # from the checkpoint alone: the data that it was trained on may be gone
                self.config.predict.data.source = Namespace(
                    class_path="cifar_lightning.data.source.ClassNames",
                    init_args=Namespace(names=self._class_names()),
                )

    def _parse(self, parser: LightningArgumentParser) -> None:
        arguments = Arguments(sys.argv[1:], self.subcommands())
        for path in arguments.config_files:
            check_config(path)
        if arguments.command is None or _asks_for_text(arguments.argv):
            self.config = parser.parse_args(arguments.argv)
            return
        self.config = parser.parse_args(arguments.about_the_checkpoint)
        name = self.config[arguments.command].ckpt_path
        if name is None and arguments.command == "fit":
            name = checkpoint_of_job(self._logs())
        if name is None:
            self.config = parser.parse_args(arguments.argv)
            return
        self.found = find_checkpoint(str(name), self._logs())
        ours = self.found.content.get(KEY, {})
        past = ours.get("config")
        if past is None:
            self.config = parser.parse_args(arguments.argv)
        else:
            self.config = parser.parse_args(arguments.with_checkpoint(past))
        if arguments.command == "fit":
            if ours.get("format") != FORMAT:
                raise UserError(
                    f"{self.found.path} was not written by this version of cifar_lightning: it "
                    "can be tested, but does not hold what is needed to go on with its run."
                )
            if past is not None:
                self._compare_with(past, arguments)
        self.config[arguments.command].ckpt_path = str(self.found.path)

    def _parse_ckpt_path(self) -> None:
        """Lightning lets the checkpoint's hyper-parameters win over the command line here."""

    def _class_names(self) -> list[str]:
        assert self.found is not None
        names = self.found.content.get(KEY, {}).get("class_names")
        if names is None:
            raise UserError(
                f"{self.found.path} does not hold the names of its classes: predict with a "
                "checkpoint that `fit` of this version has written."
            )
        return list(names)

    def _compare_with(self, past: dict[str, Any], arguments: Arguments) -> None:
        now = self._plain(self.config)
        self.changes = against_the_past(past, now)
        asked = self._plain(self.parser.parse_args(arguments.configs_alone))
        defaults = self._plain(self.parser.parse_args(["fit"]))
        say_what_configs_lost(asked, defaults, past, now)

    def _plain(self, config: Namespace) -> dict[str, Any]:
        """The configuration of the command, as it would stand in a config file."""
        command = config.subcommand
        text = self._parser(command).dump(config[command], skip_none=False)
        plain: dict[str, Any] = yaml.safe_load(text)
        return plain

    def _logs(self) -> Path:
        root = self.config[self.config.subcommand].trainer.default_root_dir
        return Path(root or ".") / "lightning_logs"

    # --- commands ---

    def instantiate_classes(self) -> None:
        asked_of_trainer = self.config[self.subcommand].trainer.as_dict()
        if self.subcommand == "fit":
            check_trainer_arguments(asked_of_trainer)
            if self.config.fit.model.flip_averaging:
                raise UsageError(
                    "--model.flip_averaging is for validate, test and predict: checkpoints are "
                    "chosen by what the network says of an image itself."
                )
        try:
            super().instantiate_classes()
        except (ValueError, TypeError, ImportError, MisconfigurationException) as error:
            # jsonargparse wraps what a constructor says in the types that it tried
            cause = re.search(r"Errors:\s+- (.*?)\n\s*- Expected", str(error), re.DOTALL)
            raise UsageError(" ".join((cause[1] if cause else str(error)).split())) from error
        check_precision(self.trainer, asked_of_trainer["precision"])
        check_length(self.model, self.trainer)
        check_compiler(self.trainer, self.model.compile_mode)
        check_processes(self.trainer, self.model, self.datamodule)
        asked = self.config[self.subcommand].model.net.get("init_args", {}).get("num_classes")
        check_num_classes(self.model, self.datamodule, asked)
        if self.found is not None:
            check_weights(self.model, self.found)
        # the number of classes comes from the data: load_from_checkpoint shall do without them
        self.model.hparams["net"]["init_args"] = {
            **self.model.hparams["net"].get("init_args", {}),
            "num_classes": self.datamodule.num_classes,
        }

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        config = self.config_init[self.subcommand].trainer
        plugins = config.plugins or []
        plugins = plugins if isinstance(plugins, list) else [plugins]
        self.own_loggers = config.logger in (None, True)
        prefix = "model.optimizer.init_args."
        of_optimizer = {
            name.removeprefix(prefix): change
            for name, change in self.changes.items()
            if name.startswith(prefix)
        }
        bar = config.enable_progress_bar is not False and sys.stdout.isatty()
        callbacks: list[Callback] = [Bar()] if bar else []
        if self.subcommand == "fit":
            dashboard = self.config_init.fit.dashboard.callbacks(self.datamodule)
            summary, changes = RunSummary(), OptimizerChanges(of_optimizer)
            # before the bar: the last epoch's line is printed before the bar is closed
            callbacks.insert(0, CallbackList([EpochLine(), Speed(), summary, changes, *dashboard]))
        if self.subcommand in ("test", "predict"):
            callbacks.append(Collector())
        self.trainer_defaults = {"callbacks": callbacks}
        return super().instantiate_trainer(
            plugins=[*plugins, DurableCheckpointIO()],
            # the loggers of a run need its folder, which is made when its data are there
            logger=False if self.own_loggers else config.logger,
            enable_progress_bar=bar,
            sync_batchnorm=has_batch_norm(self.model),
            **kwargs,
        )

    def _run_subcommand(self, subcommand: str) -> None:
        if subcommand == "fit" and self.found is not None:
            limit = self._limit_reached(self.found)
            if limit is not None:
                log.info(
                    "%s: this run is finished; give a larger --trainer.%s to go on with it.",
                    self.found.path,
                    limit,
                )
                return
        with together(self.trainer):
            super()._run_subcommand(subcommand)

    def fit(self, model: ImageClassifier, ckpt_path: str | None, **kwargs: Any) -> None:
        data: CIFAR10DataModule = self.datamodule
        if self.trainer.local_rank == 0:  # of each machine: they need not share a file system
            data.prepare_data()
        all_gather(None)  # the others wait
        data.setup("fit")
        checkpoints = next(c for c in self.trainer.callbacks if isinstance(c, Checkpoints))
        checkpoints.config = self._plain(self.config)
        checkpoints.data = data.fingerprint
        checkpoints.class_names = list(data.source.class_names)
        if self.found is not None:
            check_images(checkpoints.data, self.found)
        check_network(model, data)
        if not self.trainer.fast_dev_run:
            if self.trainer.is_global_zero:
                self._open_run()
            self.run = broadcast(self.run)
        self._introduce(model, data)
        checkpoints.run = self.run
        try:
            self.trainer.fit(model, ckpt_path=ckpt_path, **kwargs)
            checkpoints.stop.raise_if_asked()
        except Interrupted as interrupted:
            if interrupted.signum != slurm.requeue_signal(self.trainer):
                self._say_how_to_go_on(checkpoints)
            elif self.trainer.is_global_zero:
                slurm.requeue()
            raise
        except DivergedError as error:
            last = checkpoints.run_folder(self.trainer) / "checkpoints" / "last.ckpt"
            raise UserError(f"{error} The last good checkpoint is {last}.") from error
        if checkpoints.unsaved is not None:
            raise UserError(f"{checkpoints.unsaved}: the final state of the run is lost.")

    def test(self, model: ImageClassifier, **kwargs: Any) -> None:
        assert self.found is not None
        log.info("Testing %s", kwargs["ckpt_path"])
        self.trainer.test(model, **kwargs, verbose=False)
        if not self.trainer.is_global_zero:
            return
        evaluation = next(c for c in self.trainer.callbacks if isinstance(c, Collector)).evaluation
        results = {name: value.item() for name, value in self.trainer.callback_metrics.items()}
        folder = self.found.run or Path.cwd()
        names = self.datamodule.source.class_names
        loss = next(value for name, value in results.items() if name.startswith("test/loss"))
        report = write_report(
            folder, evaluation, loss, names, self.found.path, model.flip_averaging
        )
        if self.found.run is not None:
            write_test_metrics(folder, results, self.found.content["global_step"])
        print(f"{table(report)}\n\nreport: {folder}/test_report*.json and test_*.png")

    def validate(self, model: ImageClassifier, **kwargs: Any) -> None:
        log.info("Validating %s", kwargs["ckpt_path"])
        self.trainer.validate(model, **kwargs)

    def predict(self, model: ImageClassifier, **kwargs: Any) -> None:
        assert self.found is not None
        data: CIFAR10DataModule = self.datamodule
        folder = self.found.run or Path.cwd()
        if self._images is not None:
            files = find_pictures(self._images)
            config = self.found.content[KEY]["config"]
            data.pictures, shown = load_pictures(files, picture_side(config))
        self.trainer.predict(model, **{**kwargs, "return_predictions": False})
        if not self.trainer.is_global_zero:
            return
        collector = next(c for c in self.trainer.callbacks if isinstance(c, Collector))
        probabilities, names = collector.outputs, data.source.class_names
        if self._images is None:
            path = folder / "predictions.csv"
            write_predictions(path, names, collector.labels, probabilities)
            what = "the held-out images"
        else:
            print(*write_answers(folder, files, shown, probabilities, names), sep="\n")
            what = f"{len(files)} pictures"
        log.info("Predictions of %s for %s: %s", self.found.path, what, folder / "predictions.*")

    def _open_run(self) -> None:
        """Open the folder of the run, and write down what was asked for."""
        self.run, self.lock = open_run(self._logs(), self.found)
        if self.own_loggers:
            self.trainer.loggers = [RunTensorBoardLogger(self.run), MetricsCSV(self.run)]
        if (job := slurm.job_id()) is not None:
            (self.run / "slurm_job").write_text(job)
        path = self.run / "config.yaml"
        number = 1
        while path.exists():
            path = self.run / f"config-resume-{number}.yaml"
            number += 1
        path.write_text(yaml.safe_dump(self._plain(self.config), sort_keys=False))

    def _introduce(self, model: ImageClassifier, data: CIFAR10DataModule) -> None:
        parameters = sum(p.numel() for p in model.net.parameters())
        log.info(
            "%s, %s parameters, on %s: %s, %s; %s",
            type(model.net).__name__,
            f"{parameters:,}",
            self.trainer.strategy.root_device,
            type(data.source).__name__,
            data.description,
            self.run or "no run folder",
        )
        if self.found is not None:
            log.info("Going on from %s", self.found.path)

    def _limit_reached(self, found: LoadedCheckpoint) -> str | None:
        loops = found.content["loops"]["fit_loop"]
        epochs: int = loops["epoch_progress"]["current"]["processed"]
        steps: int = found.content["global_step"]
        max_epochs, max_steps = self.trainer.max_epochs, self.trainer.max_steps
        if max_epochs is not None and 0 <= max_epochs <= epochs:
            return "max_epochs"
        return "max_steps" if 0 <= max_steps <= steps else None

    def _say_how_to_go_on(self, checkpoints: Checkpoints) -> None:
        if self.run is None or not (self.run / "checkpoints" / "last.ckpt").exists():
            return
        if checkpoints.unsaved is not None:
            log.warning("%s: what is there is older.", checkpoints.unsaved)
        path = "last" if is_newest_run(self.run) else self.run / "checkpoints" / "last.ckpt"
        log.info("To go on: python -m cifar_lightning fit --ckpt_path %s", path)


def _asks_for_text(argv: list[str]) -> bool:
    return any(w in ("-h", "--help") or w.startswith("--print_config") for w in argv)


def quiet_lightning(level: int = logging.WARNING) -> None:
    """Let Lightning say what is wrong alone: it advertises from the moment it is imported."""
    for name in ("pytorch_lightning", "lightning_fabric"):
        logging.getLogger(name).setLevel(level)


def run() -> None:
    """Run the command that ``sys.argv`` names."""
    quiet_lightning()
    if process_number() > 0:  # all processes would say the same
        logging.getLogger("cifar_lightning").setLevel(logging.ERROR)
    CLI()
