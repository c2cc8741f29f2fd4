"""``espalier synth``: the photographs that are missing, painted on those that are there."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from espalier.cli.output import AsJson, print_json, print_result, say
from espalier.cli.places import check_source

if TYPE_CHECKING:
    from espalier.synth.folder import Made, Order


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command("synth")(synth)


def synth(
    painter: Annotated[
        str, typer.Argument(help="What to paint: dirty (dishes), lesions (leaves).")
    ],
    photos: Annotated[Path, typer.Argument(help="Folder of clean dishes, or of healthy leaves.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder to write; synthetic-PAINTER.")
    ] = None,
    variations: Annotated[
        int | None, typer.Option(help="Pictures from each photograph; 2 unless --ratio is given.")
    ] = None,
    intensity: Annotated[
        str, typer.Option(help="Shares of light, medium and heavy.")
    ] = "light=0.3,medium=0.5,heavy=0.2",
    ratio: Annotated[
        float | None, typer.Option(help="Paint until (real + painted) : photographs is this.")
    ] = None,
    against: Annotated[
        Path | None, typer.Option(help="Folder of real images that --ratio counts too.")
    ] = None,
    label: Annotated[
        str | None, typer.Option(help="Class of what is painted; the painter's word otherwise.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Same seed, same pictures.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Paint what is missing on photographs: dirt on clean dishes, disease on healthy leaves."""
    check_source(str(photos), f"synth {painter}")
    from espalier.cli.screen import open_screen
    from espalier.synth.folder import Order, make
    from espalier.synth.plan import parse_shares

    order = Order(
        source=photos,
        out=output or Path(f"synthetic-{painter}"),
        painter=painter,
        shares=parse_shares(intensity),
        seed=seed,
        variations=2 if variations is None and ratio is None else variations,
        ratio=ratio,
        against=against,
        label=label,
    )
    with open_screen() as screen:
        made = make(order, screen.on_draw)
    for line in _notes(made, order):
        say(line)
    if as_json:
        print_json(made.to_json())
    else:
        print_result(_result(made, order))


def _notes(made: Made, order: Order) -> list[str]:
    lines = []
    if made.unreadable:
        path, why = made.unreadable[0]
        lines.append(f"{len(made.unreadable):,} files cannot be read, left out: {path} ({why}) ...")
    if made.not_found:
        lines.append(
            f"on {len(made.not_found):,} of {made.photographs:,} photographs no object was found, "
            f"nothing is painted there: {made.not_found[0]} ..."
        )
    if made.copies:
        lines.append(f"{made.copies:,} exact copies are painted on once")
    if order.out.absolute().parent == order.source.absolute().parent:
        lines.append(
            f"{order.out} lies beside {order.source.name}: training on that folder would take it "
            "for a class and judge by painted pictures; better move it elsewhere"
        )
    return lines


def _result(made: Made, order: Order) -> str:
    total = made.made.total()
    if not total and order.ratio is not None and made.is_enough:
        have = made.real + made.there
        return (
            f"already reached: {have:,} {made.label} ({made.real:,} real, {made.there:,} painted) "
            f"to {made.photographs:,} photographs is at least {order.ratio:g} : 1; nothing written"
        )
    each = ", ".join(f"{count:,} {name}" for name, count in made.made.items())
    before = f"; {made.there:,} were there" if made.there else ""
    return f"{total:,} pictures of class {made.label} ({each or 'none'}){before}\n{made.manifest}"
