"""What the dApp is told is what the contracts, the protocol and the API say."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from tallystick.protocol import codec, messages
from tallystick.protocol.contract_errors import SENTENCES
from tallystick.protocol.contract_sentences import CONTRACT_SENTENCES, UNITS
from tallystick.protocol.types import Address, Digest, TaskId
from tools import dapp_types

ROOT = Path(__file__).resolve().parents[2]
PLACE = re.compile(r"\{(\d)(?::(\w+))?\}")


def test_the_committed_files_are_the_generated_ones() -> None:
    assert list(dapp_types.out_of_date()) == [], "run `make dapp-types` and commit what it wrote"


def test_a_changed_file_is_noticed(tmp_path: Path) -> None:
    for name in dapp_types.FILES:
        (tmp_path / name).write_bytes((dapp_types.DESTINATION / name).read_bytes())
    (tmp_path / "errors.ts").write_text("export const contractErrors = {};\n")
    (tmp_path / "abi.ts").unlink()

    assert set(dapp_types.out_of_date(tmp_path)) == {"abi.ts", "errors.ts"}


def test_every_custom_error_has_a_sentence_in_both_languages() -> None:
    assert set(CONTRACT_SENTENCES) == codec.error_names()
    for name, sentence in CONTRACT_SENTENCES.items():
        assert sentence.en, name
        assert re.search(r"[\u4e00-\u9fff]", sentence.zh), name


@pytest.mark.parametrize("name", sorted(CONTRACT_SENTENCES))
def test_both_languages_use_the_same_values_in_the_same_units(name: str) -> None:
    sentence = CONTRACT_SENTENCES[name]

    assert sorted(PLACE.findall(sentence.en)) == sorted(PLACE.findall(sentence.zh))
    assert {unit for _, unit in PLACE.findall(sentence.en)} <= {"", *UNITS}


def test_python_reads_the_same_sentences_without_units() -> None:
    assert SENTENCES["EndedInFuture"].format(5, 7) == (
        "the receipt ends at 7 ms and the chain's time is 5 ms: wait for the next block, and "
        "check the clock"
    )
    assert not [said for said in SENTENCES.values() if re.search(r"\{\d:", said)]


def test_amounts_and_times_have_their_unit() -> None:
    """By type and name in Solidity, so that nobody is shown bare wei or seconds."""
    found = []
    for contract in codec.CONTRACTS:
        for entry in codec.abi(contract):
            if entry["type"] != "error":
                continue
            for place, unit in PLACE.findall(CONTRACT_SENTENCES[entry["name"]].en):
                value = entry["inputs"][int(place)]
                if value["type"] == "uint128" and unit not in ("token", "stake"):
                    found.append((entry["name"], value["name"], unit))
                if re.search(r"([a-z]At|^until)$", value["name"]) and unit != "time":
                    found.append((entry["name"], value["name"], unit))
                if value["name"].endswith("AtMs") and unit != "time_ms":
                    found.append((entry["name"], value["name"], unit))
    assert found == []


def test_viem_reads_abis_errors_and_typed_data() -> None:
    """The generated files are loaded as they are; viem finds our selectors and digests in them."""
    program = """
      import { createRequire } from "node:module";
      import { readFileSync } from "node:fs";
      const require = createRequire(process.argv[1] + "/package.json");
      const ts = require("typescript");
      const { encodeErrorResult, decodeErrorResult, hashTypedData, toFunctionSelector } =
        require("viem");
      const load = async (name) => {
        const text = readFileSync(`${process.argv[1]}/dapp/src/generated/${name}.ts`, "utf8");
        const { outputText } = ts.transpileModule(text, {
          compilerOptions: { module: "esnext", target: "es2022" },
        });
        return import("data:text/javascript," + encodeURIComponent(outputText));
      };
      const abi = await load("abi");
      const errors = await load("errors");
      const typed = await load("typedData");
      const data = encodeErrorResult({
        abi: abi.contractErrorsAbi, errorName: "InsufficientAvailable", args: [7n, 5n],
      });
      const found = decodeErrorResult({ abi: abi.contractErrorsAbi, data });
      const escrow = "0x" + "11".repeat(20);
      const digest = hashTypedData({
        domain: typed.eip712Domain(31337, escrow), types: typed.eip712Types,
        primaryType: "Acceptance",
        message: { taskId: "0x" + "22".repeat(32), total: 9n, receipt: "0x" + "33".repeat(32) },
      });
      console.log(JSON.stringify({
        name: found.errorName, args: found.args.map(String),
        entry: errors.contractErrors[found.errorName], digest,
        errors: Object.keys(errors.contractErrors).length, abi: abi.contractErrorsAbi.length,
        deposit: toFunctionSelector(abi.computeEscrowAbi.find((e) => e.name === "deposit")),
      }));
    """
    done = subprocess.run(
        ["node", "--input-type=module", "-e", program, str(ROOT)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)

    assert (said["name"], said["args"]) == ("InsufficientAvailable", ["7", "5"])
    assert [arg["unit"] for arg in said["entry"]["args"]] == ["token", "token"]
    assert said["errors"] == said["abi"] == len(codec.error_names())
    domain = messages.Domain(31337, Address("0x" + "11" * 20))
    acceptance = messages.Acceptance(TaskId(Digest("0x" + "22" * 32)), 9, Digest("0x" + "33" * 32))
    assert said["digest"] == messages.digest(domain, acceptance)
    assert said["deposit"].startswith("0x")
