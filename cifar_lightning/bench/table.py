"""What ``bench`` prints."""

from typing import Any


def table(report: dict[str, Any]) -> str:
    """The content of ``bench.json`` in a few lines."""
    steps = report["step_ms"]
    lines = [
        f"{report['network']}, batch {report['batch_size']}, {report['precision']}, "
        f"{report['data']}, {report['device']}",
        f"{report['rounds']} rounds of {report['steps']} steps each, interleaved",
        "",
        f"{'a step':22}  median ms      min      max",
    ]
    for name, times in steps.items():
        row = f"{times['median']:9.3f} {min(times['all']):8.3f} {max(times['all']):8.3f}"
        lines.append(f"{name:22}  {row}")
    lines += ["", f"the limit is the fastest of these: {report['limit_is']}"]
    lines += [f"  {name:66} {value:8.3f}" for name, value in report["limit_tried_ms"].items()]
    product = report["matrix_product"]
    lines += [
        f"{product['gflop_per_step']:.2f} GFLOP a step; a matrix product runs at "
        f"{product['gflop_per_second']:,.0f} GFLOP/s here, of which fit reaches "
        f"{product['share_of_fit']:.0%}",
    ]
    lines += ["", "of it"]
    lines += [f"  {name:20}  {value:9.3f}" for name, value in report["anatomy_ms"].items()]
    lines += ["", f"{'seconds':40}"]
    lines += [f"  {name:38}{value:9.3f}" for name, value in report["seconds"].items()]
    lines += [f"{'peak memory, MB: ' + n:40}{v:9.0f}" for n, v in report["peak_memory_mb"].items()]
    lines += [
        "",
        f"fit takes {_spread(report['fit_to_limit'])} times the limit and "
        f"{_spread(report['fit_to_article'])} times the article's loop "
        f"({report['article_workers']} loader processes); "
        f"{_spread(report['fit_minus_barebones_us'], '+.0f')} µs a step to Lightning's barebones "
        "loop.",
    ]
    return "\n".join(lines)


def _spread(of_rounds: dict[str, Any], form: str = ".3f") -> str:
    low, high = min(of_rounds["all"]), max(of_rounds["all"])
    return f"{of_rounds['median']:{form}} ({low:{form}} to {high:{form}})"
