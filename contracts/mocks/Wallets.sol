// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {IERC1271} from "@openzeppelin/contracts/interfaces/IERC1271.sol";

/// @notice For tests: a wallet that is a contract. Takes its owner's signatures for its own, or behaves badly as told.
contract ContractWallet {
    enum Mood {
        Honest,
        Refuses,
        Reverts,
        BurnsGas,
        AnswersHuge,
        AnswersShort,
        WrongMagic,
        ChangesState
    }

    address private immutable _owner;
    Mood public mood;
    uint256 public asked;

    constructor(address owner) {
        _owner = owner;
    }

    function setMood(Mood mood_) external {
        mood = mood_;
    }

    function call(address target, bytes calldata data) external {
        // solhint-disable-next-line avoid-low-level-calls
        (bool success, bytes memory answer) = target.call(data);
        if (success) return;
        assembly ("memory-safe") {
            revert(add(answer, 0x20), mload(answer))
        }
    }

    function isValidSignature(bytes32 hash, bytes calldata signature) external returns (bytes4) {
        if (mood == Mood.Refuses) return 0xffffffff;
        if (mood == Mood.Reverts) revert("no");
        if (mood == Mood.BurnsGas) {
            while (true) {}
        }
        if (mood == Mood.AnswersHuge) {
            // The right answer, and 850 kB behind it: more than the gas it is given can pay for.
            assembly {
                mstore(0, shl(224, 0x1626ba7e))
                return(0, 850000)
            }
        }
        if (mood == Mood.AnswersShort) {
            assembly ("memory-safe") {
                mstore(0, shl(224, 0x1626ba7e))
                return(0, 4)
            }
        }
        if (mood == Mood.WrongMagic) return 0x1626ba7f;
        if (mood == Mood.ChangesState) ++asked;
        (address signer,,) = ECDSA.tryRecoverCalldata(hash, signature);
        return signer == _owner ? IERC1271.isValidSignature.selector : bytes4(0xffffffff);
    }
}
