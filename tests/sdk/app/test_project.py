"""tallystick.toml as an app manifest, and the handler that it names.

read_project
├── every field but price and publish is the manifest's
└── refuses what is missing, misspelt or of the wrong kind, and names the file and the field
load
└── refuses a module, a function, a mark or an argument that is not there
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tallystick.app import current_call, declare
from tallystick.app.problems import ProjectError
from tallystick.app.project import read_project
from tallystick.app.serving import load_entry
from tallystick.protocol.app_manifest import FunctionHandler, RunPodHandler

LEAST = 'name = "a"\n[handler]\nkind = "function"\nentry = "handler:greet"\n'


def test_the_file_is_the_manifest_but_for_the_image() -> None:
    Path("tallystick.toml").write_text(
        'name = "a"\nconcurrency = 2\nenvironment = ["TOKEN"]\n'
        '[handler]\nkind = "runpod"\nentry = "h:run"\n[resources]\ngpus = 1\n'
        'gpu_class = "gpu1"\n[scaling]\nmin_workers = 1\n[input_schema]\ntype = "object"\n'
        'properties.heat = { default = 0.7 }\n[price]\ncall = "0.5"\n'
        '[publish]\nuri = "https://example.org/m.json"\nroyalty_bps = 100\nroyalty_to = "0x1"\n'
    )
    project = read_project(Path())
    manifest = project.manifest("x@sha256:" + "6d" * 32)
    assert (manifest.name, manifest.concurrency, manifest.environment) == ("a", 2, ("TOKEN",))
    assert manifest.handler == RunPodHandler(entry="h:run")
    assert (manifest.resources.gpu_class, manifest.scaling.min_workers) == ("gpu1", 1)
    assert manifest.input_schema == '{"properties":{"heat":{"default":0.7}},"type":"object"}'
    assert manifest.image.startswith("x@sha256:")
    price = project.price
    assert (price.flat, price.call, price.gpu_hour) == ("0", "0.5", "0")
    assert (project.uri, project.royalty_bps) == ("https://example.org/m.json", 100)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "there is no tallystick.toml in"),
        ("name =", "cannot be read"),
        ('name = "a"\n', "handler: Field required"),
        (LEAST.replace('name = "a"\n', ""), "name is missing"),
        ("cocurrency = 2\n" + LEAST, "cocurrency: Extra inputs"),
        ('image = "x"\n' + LEAST, "image is not written here"),
        ("timeout_s = 0\n" + LEAST, "timeout_s: "),
        ("price = 3\n" + LEAST, "price is no table"),
        (LEAST + "[price]\nhour = '1'\n", r"\[price\] has no hour: it takes flat, call, gpu_hour"),
        (LEAST + "[price]\ncall = 0.1\n", "price.call is 0.1: write it as text"),
        (LEAST + "[publish]\nroyalty_bps = 3001\n", "royalty_bps is 3001"),
        (LEAST + "[input_schema]\nat = 2026-01-01\n", "input_schema"),
        (LEAST + '[input_schema]\nrequird = ["a"]\n', "input_schema: /requird is not taken here"),
        (LEAST + "[input_schema]\npattern = '^a'\n", "set max_request_bytes to at most 262144"),
    ],
)
def test_refuses(text: str | None, says: str) -> None:
    if text is not None:
        Path("tallystick.toml").write_text(text)
    with pytest.raises(ProjectError, match=says):
        read_project(Path())


@pytest.mark.parametrize(
    ("source", "declared", "says"),
    [
        ("", FunctionHandler(entry="nowhere:greet"), "there is no module 'nowhere'"),
        ("", FunctionHandler(entry="MODULE:greet"), "has no function 'greet'"),
        ("greet = 1", FunctionHandler(entry="MODULE:greet"), "has no function 'greet'"),
        ("def greet(): ...", FunctionHandler(entry="MODULE:greet"), "is not marked as a handler"),
        ("def greet(): ...", RunPodHandler(entry="MODULE:greet"), "has to take one argument"),
        ("def greet(a, b): ...", RunPodHandler(entry="MODULE:greet"), "has to take one argument"),
        ("def greet(a, /): ...", RunPodHandler(entry="MODULE:greet"), "by position only"),
        (
            "def greet(job): ...",
            RunPodHandler(entry="MODULE:greet", warm_up="MODULE:load"),
            "has no function 'load'",
        ),
    ],
)
def test_load_refuses(
    source: str,
    declared: FunctionHandler | RunPodHandler,
    says: str,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    module = f"handler_{abs(hash(request.node.name))}"
    Path(f"{module}.py").write_text(source)
    monkeypatch.syspath_prepend(str(Path().resolve()))
    named = {
        name: value.replace("MODULE", module)
        for name, value in declared.model_dump(exclude={"kind"}).items()
        if value is not None
    }
    with pytest.raises(ProjectError, match=says):
        declare.load(declared.model_copy(update=named))


def test_a_module_that_misses_another_is_its_authors_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Path("needs_torch.py").write_text("import a_module_that_is_not_there")
    monkeypatch.syspath_prepend(str(Path().resolve()))
    with pytest.raises(ModuleNotFoundError, match="a_module_that_is_not_there"):
        declare.load(RunPodHandler(entry="needs_torch:run"))


def test_an_http_servers_project_is_not_served_by_ours() -> None:
    Path("tallystick.toml").write_text('name = "a"\n[handler]\nkind = "http"\nport = 80\n')
    with pytest.raises(ProjectError, match="HTTP server of its own"):
        load_entry(read_project(Path()))


def test_outside_of_a_call_there_is_none() -> None:
    with pytest.raises(LookupError, match="there is no call"):
        current_call()


def test_a_handler_loads_neither_the_server_nor_the_client() -> None:
    code = (
        "import tallystick.app, sys; loaded = {m.partition('.')[0] for m in sys.modules};"
        "sys.exit(bool(loaded & {'starlette', 'uvicorn', 'pydantic', 'web3', 'httpx'}))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_worker_loads_no_chain() -> None:
    code = "import tallystick.app.serving, sys; sys.exit('web3' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "there is no tallystick.toml"),
        (["--project", "app"], "where to listen?"),
        (["--project", "app", "--socket", "app/tallystick.toml"], "is there and is no socket"),
        (["--project", "app", "--socket", "nowhere/s"], "cannot listen on nowhere/s"),
    ],
)
def test_the_program_says_what_is_wrong(words: list[str], says: str) -> None:
    Path("app").mkdir()
    Path("app/tallystick.toml").write_text(LEAST)
    Path("app/handler.py").write_text(
        "from tallystick.app import handler\n@handler\ndef greet(): ...\n"
    )
    run = [sys.executable, "-m", "tallystick.app", "serve", *words]
    done = subprocess.run(run, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, "Traceback" in done.stderr) == (2, False)
    assert says in done.stderr
