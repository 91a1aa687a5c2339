"""`tallystick app`: a project written, tried and published, on a real chain.

init
├── what is written passes its own test and answers a call
└── overwrites nothing, names what is in the way, refuses a name that is none
serve
├── prints the address and one curl line that works, ends with Ctrl-C
├── -i answers one call and ends: the answer on stdout, a problem as an exit code
└── refuses a handler that cannot be imported, a port in use, a hook that fails
deploy
├── publishes version 1; the chain says what the manifest's bytes hash to
├── again: nothing to do; another image: version 2; another price: after the notice
├── shows and asks: no, nobody there, --json without --yes, --dry-run
└── refuses another publisher's app, a retired one, bad prices, images without a digest
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest
import typer
from typer.testing import CliRunner

from tallystick.protocol.app_manifest import AppManifest, read_app_manifest
from tallystick.protocol.contracts import Registry
from tallystick.protocol.deployments import Deployment, to_json
from tallystick.protocol.hashing import digest_of
from tallystick.protocol.pricing import Price
from tallystick.protocol.types import AppId, Digest
from tallystick.protocol.web3 import close, connect
from tests.sdk.cli.conftest import Ran
from tests.support.anvil import APP_OWNER, STRANGER, TOKEN, LocalChain, Person, send

IMAGE = "registry.example/hello@sha256:" + "6d" * 32
IMAGE_2 = "registry.example/hello@sha256:" + "7e" * 32
DAY_S = 86_400

Do = Callable[..., Ran]
T = TypeVar("T")


@pytest.fixture
def do(app: typer.Typer) -> Do:
    """`do("init", "hello", answer="y\\n")`, without a backend."""

    def invoke(*words: str, answer: str = "") -> Ran:
        result = CliRunner().invoke(app, ["app", *words], input=answer)
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
        return Ran(result.exit_code, result.stdout, result.stderr)

    return invoke


@pytest.fixture
def project(do: Do) -> Path:
    assert do("init", "hello").code == 0
    return Path("hello").resolve()


def program(*words: str, **options: Any) -> subprocess.Popen[str]:
    """The command line as a process of its own: it serves, and signals reach it."""
    return subprocess.Popen(
        [sys.executable, "-m", "tallystick.cli", "app", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def finished(process: subprocess.Popen[str]) -> Ran:
    out, err = process.communicate(timeout=60)
    return Ran(process.returncode, out, err)


class TestInit:
    def test_what_is_written_passes_its_own_test(self, project: Path) -> None:
        run = [sys.executable, "-m", "pytest", "-q", "-p", "no:pytest-brownie"]
        done = subprocess.run(
            run, cwd=project, capture_output=True, text=True, check=False, timeout=60
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert "2 passed" in done.stdout

    def test_says_what_it_wrote(self, do: Do) -> None:
        told = do("init", "hello-gpu", "--dir", "here", "--json").json
        names = ["handler.py", "tallystick.toml", "Dockerfile", ".dockerignore"]
        names += ["test_handler.py", "README.md"]
        assert told["files"] == [f"here/{name}" for name in names]
        assert 'name = "hello-gpu"' in Path("here/tallystick.toml").read_text()
        assert "FROM ${BASE}" in Path("here/Dockerfile").read_text()

    def test_overwrites_nothing(self, do: Do) -> None:
        Path("hello").mkdir()
        Path("hello/Dockerfile").write_text("mine")
        Path("hello/notes.txt").write_text("mine")
        ran = do("init", "hello")
        assert ran.code == 1
        assert "hello/Dockerfile is there already" in ran.err
        assert sorted(path.name for path in Path("hello").iterdir()) == ["Dockerfile", "notes.txt"]
        Path("hello/Dockerfile").unlink()
        assert do("init", "hello").code == 0

    @pytest.mark.parametrize("name", ["Hello", "-x", "a/b", "", "a" * 64, "a_b"])
    def test_refuses_a_name_that_is_none(self, do: Do, name: str) -> None:
        assert do("init", "--", name).code == 2
        assert list(Path().iterdir()) == []


class TestServe:
    def test_answers_at_the_address_it_prints(self, project: Path) -> None:
        process = program("serve", "--port", "0", cwd=project)
        try:
            assert process.stdout is not None
            curl = process.stdout.readline()  # once it is ready
            words = shlex.split(curl)
            assert words[0] == "curl"
            assert json.loads(words[-1]) == {"name": "world"}
            done = subprocess.run(
                [*words, "--silent", "--noproxy", "*"], capture_output=True, check=True, timeout=20
            )
            assert json.loads(done.stdout) == {"greeting": "Hello, world!"}
            process.send_signal(signal.SIGINT)
            ended = finished(process)
            assert ended.code == 0
            assert "hello answers at http://127.0.0.1:" in ended.err
        finally:
            process.kill()
            process.communicate()

    @pytest.mark.parametrize(
        ("inputs", "code", "out", "err"),
        [
            (["-i", "name=Ada"], 0, '{"greeting":"Hello, Ada!"}\n', "call_finished"),
            (
                ["-i", "name=Ada", "-i", "language=xx"],
                2,
                "",
                'At $.language: it is not one of "en", "de" or "zh"',
            ),
            (["-i", "name=7"], 2, "", 'At $.name: it is not of type "string"'),
            (["-i", "name"], 2, "", "no name or no value"),
        ],
    )
    def test_one_call(
        self, project: Path, inputs: list[str], code: int, out: str, err: str
    ) -> None:
        ran = finished(program("serve", *inputs, cwd=project))
        assert (ran.code, ran.out) == (code, out), ran.err
        assert err in ran.err

    def test_a_failing_handler_shows_its_author_the_trace(self, project: Path) -> None:
        handler = project / "handler.py"
        text = handler.read_text()
        handler.write_text(text.replace("    if language", "    1 / 0\n    if language"))
        ran = finished(program("serve", "-i", "name=Ada", "--dir", str(project)))
        assert (ran.code, ran.out) == (1, "")
        assert "ZeroDivisionError" in ran.err
        assert "Error: The handler failed." in ran.err

    def test_a_handler_that_cannot_be_imported(self, project: Path) -> None:
        (project / "handler.py").write_text("import a_module_that_is_not_there\n")
        ran = finished(program("serve", "-i", "name=Ada", cwd=project))
        assert ran.code == 2
        assert "The handler cannot be imported: ModuleNotFoundError" in ran.err

    def test_a_hook_that_fails(self, project: Path) -> None:
        handler = project / "handler.py"
        handler.write_text(handler.read_text().replace("    greetings.update", "    1 / 0\n    x"))
        ran = finished(program("serve", "-i", "name=Ada", cwd=project))
        assert (ran.code, ran.out) == (1, "")
        assert "warm_up_failed" in ran.err

    def test_a_port_in_use(self, project: Path) -> None:
        import socket

        with socket.socket() as other:
            other.bind(("127.0.0.1", 0))
            other.listen()
            port = str(other.getsockname()[1])
            ran = finished(program("serve", "--port", port, cwd=project))
        assert ran.code == 2
        assert f"Cannot listen on 127.0.0.1:{port}" in ran.err
        assert "--port 0" in ran.err

    def test_no_project(self, do: Do) -> None:
        ran = do("serve")
        assert (ran.code, "There is no tallystick.toml" in ran.err) == (2, True)


class TestDeploy:
    @pytest.fixture(autouse=True)
    def publisher(
        self, chain: LocalChain, deployment: Deployment, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        Path("deployment.json").write_text(json.dumps(to_json(deployment)))
        monkeypatch.setenv("TALLYSTICK_RPC_URL", chain.url)
        act_as(APP_OWNER, monkeypatch)

    @pytest.fixture
    def deploy(self, do: Do, project: Path) -> Do:
        place = ("--dir", str(project), "--deployment", str(Path("deployment.json").resolve()))

        def deploy(*words: str, answer: str = "") -> Ran:
            image = () if "--image" in words else ("--image", IMAGE)
            return do("deploy", *place, *image, *words, answer=answer)

        return deploy

    def test_version_1(
        self, deploy: Do, project: Path, chain: LocalChain, deployment: Deployment
    ) -> None:
        told = deploy("--yes", "--json").json
        assert (told["act"], told["version"], told["publisher"]) == (
            "publish",
            1,
            APP_OWNER.address,
        )
        assert told["price"] == {
            "flat": "0",
            "fee_per_call": str(TOKEN // 1000),
            "rate_per_gpu_second": "0",
        }
        app_id = AppId(Digest(told["app"]))
        app = ask(chain, deployment, lambda registry: registry.app(app_id))
        version = ask(chain, deployment, lambda registry: registry.version(app_id, 1))
        price = ask(chain, deployment, lambda r: r.price_at(app_id, 1, chain.now_s()))
        assert (app.publisher, app.versions, app.royalty_bps) == (APP_OWNER.address, 1, 0)
        assert version.image_digest == "0x" + "6d" * 32
        assert price == Price(0, TOKEN // 1000, 0)
        manifest = read_app_manifest(
            (project / "manifest.json").read_bytes(), expected=version.manifest_digest
        )
        assert (manifest.name, manifest.image) == ("hello", IMAGE)
        assert told["uri"] == f"urn:tallystick:manifest:{version.manifest_digest}"

    def test_for_people(self, deploy: Do) -> None:
        ran = deploy("--yes")
        assert ran.code == 0
        assert "price      0 TALLY flat, 0.001 TALLY a call, 0 TALLY a GPU-hour" in ran.out
        assert "this publishes version 1" in ran.err
        assert "Published version 1 of hello in transaction 0x" in ran.err
        assert re.fullmatch(r"0x[0-9a-f]{64}", ran.out.splitlines()[-1])

    def test_again_and_version_2(self, deploy: Do) -> None:
        first = deploy("--yes", "--json").json
        same = deploy("--yes")
        assert (same.code, "There is nothing to publish" in same.err) == (0, True)
        ran = deploy("--image", IMAGE_2, "--price-call", "0.002", "--yes")
        assert "version 1 stays as before" in ran.err
        assert "price before  0 TALLY flat, 0.001 TALLY a call" in ran.out
        assert ran.out.splitlines()[-1] == first["app"]
        again = deploy("--image", IMAGE_2, "--price-call", "0.002", "--json", "--yes").json
        assert (again["act"], again["version"], again["sent"]) == ("nothing", 2, None)

    def test_a_price_holds_after_the_notice(
        self, deploy: Do, chain: LocalChain, deployment: Deployment
    ) -> None:
        app_id = AppId(Digest(deploy("--yes", "--json").json["app"]))
        told = deploy("--price-call", "0.5", "--price-gpu-hour", "3.6", "--yes", "--json").json
        assert (told["act"], told["version"]) == ("set_price", 1)
        at_s = told["takes_effect_at"]
        assert 0 <= at_s - (chain.now_s() + DAY_S) <= 1
        after = Price(0, TOKEN // 2, TOKEN // 1000)
        before = ask(chain, deployment, lambda r: r.price_at(app_id, 1, at_s - 1))
        assert before == Price(0, TOKEN // 1000, 0)
        assert ask(chain, deployment, lambda r: r.price_at(app_id, 1, at_s)) == after
        # What is announced counts: the same price once more is nothing new.
        words = ("--price-call", "0.5", "--price-gpu-hour", "3.6", "--yes", "--json")
        assert deploy(*words).json["act"] == "nothing"
        assert deploy("--dry-run", "--json").json["act"] == "set_price"

    def test_a_discount_is_no_other_price(
        self, deploy: Do, chain: LocalChain, deployment: Deployment
    ) -> None:
        app_id = AppId(Digest(deploy("--yes", "--json").json["app"]))
        registry = Registry(None, deployment.registry)  # type: ignore[arg-type]  # builds calls only
        start_s = chain.now_s() + 10
        send(chain, APP_OWNER, registry.set_discount(app_id, 5_000, start_s, start_s + 100))
        chain.wait(50)
        assert deploy("--yes", "--json").json["act"] == "nothing"

    def test_it_asks(self, deploy: Do) -> None:
        no = deploy(answer="n\n")
        assert (no.code, "Nothing was published" in no.err) == (3, True)
        nobody = deploy()
        assert (nobody.code, "Nobody answered" in nobody.err) == (2, True)
        assert deploy("--json").code == 2
        dry = deploy("--dry-run", "--json").json
        assert (dry["act"], dry["sent"]) == ("publish", None)
        yes = deploy(answer="y\n")
        assert (yes.code, "Published version 1" in yes.err) == (0, True)

    def test_another_publishers_app(self, deploy: Do, monkeypatch: pytest.MonkeyPatch) -> None:
        app_id = deploy("--yes", "--json").json["app"]
        act_as(STRANGER, monkeypatch)
        ran = deploy("--app", app_id, "--image", IMAGE_2, "--yes")
        assert ran.code == 3
        assert f"is {APP_OWNER.address}'s, which alone may change it" in ran.err
        assert STRANGER.address in ran.err
        own = deploy("--yes", "--json").json  # the same name under another key is another app
        assert (own["act"], own["app"] == app_id) == ("publish", False)

    def test_an_app_that_is_not_there_or_over(
        self, deploy: Do, chain: LocalChain, deployment: Deployment
    ) -> None:
        nowhere = deploy("--app", "0x" + "11" * 32, "--yes")
        assert (nowhere.code, "No app 0x1111" in nowhere.err) == (4, True)
        assert deploy("--app", "hello", "--yes").code == 2
        app_id = AppId(Digest(deploy("--yes", "--json").json["app"]))
        registry = Registry(None, deployment.registry)  # type: ignore[arg-type]  # builds calls only
        send(chain, APP_OWNER, registry.retire(app_id))
        retired = deploy("--image", IMAGE_2, "--yes")
        assert (retired.code, "is retired" in retired.err) == (1, True)

    @pytest.mark.parametrize(
        ("words", "says"),
        [
            (["--price-call", "-1"], "no amount of tokens"),
            (["--price-flat", "0." + "1" * 19], "cannot be charged"),
            (["--price-gpu-hour", "0.000000000000000001"], "less than the smallest unit a second"),
            (["--uri", "x" * 513], "has 513 bytes"),
            (["--image", "hello:latest"], "hello:latest"),
            (["--deployment", "nowhere.json"], "registry cannot be used"),
        ],
    )
    def test_refuses(
        self, deploy: Do, words: list[str], says: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("DOCKER_HOST", f"unix://{os.getcwd()}/no-engine")
        ran = deploy(*words, "--yes")
        assert ran.code == 2, ran.err
        assert says in ran.err

    def test_without_engine_image_key_or_chain(
        self, do: Do, project: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("DOCKER_HOST", f"unix://{os.getcwd()}/no-engine")
        ran = do("deploy", "--dir", str(project), "--yes")
        assert (ran.code, "no container engine answers" in ran.err) == (2, True)
        assert "--image process" in ran.err
        monkeypatch.delenv("TALLYSTICK_RPC_URL")
        ran = do("deploy", "--dir", str(project), "--yes")
        assert (ran.code, "There is no chain endpoint" in ran.err) == (2, True)
        monkeypatch.delenv("TALLYSTICK_PRIVATE_KEY")
        ran = do("deploy", "--dir", str(project), "--yes")
        assert (ran.code, "There is no wallet key" in ran.err) == (2, True)

    def test_the_context_may_name_the_deployment(
        self, do: Do, project: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        words = ("deploy", "--dir", str(project), "--image", IMAGE, "--dry-run")
        assert "no deployment is known for chain 31337" in do(*words).err
        monkeypatch.setenv("TALLYSTICK_DEPLOYMENT", "deployment.json")
        assert do(*words).code == 0

    def test_the_development_runtime_has_a_digest_too(self, deploy: Do) -> None:
        told = deploy("--image", "process", "--yes", "--json").json
        assert told["image_digest"] == digest_of(b"process")


def ask(
    chain: LocalChain, deployment: Deployment, question: Callable[[Registry], Awaitable[T]]
) -> T:
    async def answer() -> T:
        web3 = connect(chain.url)
        try:
            return await question(Registry(web3, deployment.registry))
        finally:
            await close(web3)

    return asyncio.run(answer())


def act_as(someone: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TALLYSTICK_PRIVATE_KEY", someone.key)


def test_the_written_manifest_is_what_the_kernel_reads(project: Path) -> None:
    from tallystick.app.project import read_project

    manifest = read_project(project).manifest(IMAGE)
    assert isinstance(manifest, AppManifest)
    assert manifest.scaling.min_workers == 0
    assert json.loads(manifest.input_schema)["required"] == ["name"]
