// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {Signatures} from "../../../contracts/libraries/Signatures.sol";
import {Check} from "../base/Check.sol";
import {vm} from "../base/Vm.sol";

/// @notice One canonical form for every signature: two spellings of 65 and 64 bytes, low s, and nothing else (cases 35, 36).
contract SignaturesFuzz is Check {
    uint256 private constant ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141;

    function recover(bytes32 digest, bytes calldata signature) external pure returns (address) {
        return Signatures.recover(digest, signature);
    }

    function byOpenZeppelin(bytes32 digest, bytes calldata signature) external pure returns (address signer) {
        (signer,,) = ECDSA.tryRecoverCalldata(digest, signature);
    }

    function testFuzz_both_forms_recover_the_signer(uint256 seed, bytes32 digest) external view {
        (uint256 key, bytes32 r, bytes32 s, uint8 v) = _signed(seed, digest);
        bytes32 vs = bytes32(uint256(s) | (uint256(v - 27) << 255));
        checkEqual(vm.addr(key), this.recover(digest, abi.encodePacked(r, s, v)), "65 bytes");
        checkEqual(vm.addr(key), this.recover(digest, abi.encodePacked(r, vs)), "64 bytes");
        checkEqual(vm.addr(key), Signatures.recover(digest, r, vs), "two words");
    }

    function testFuzz_the_other_s_is_nobody(uint256 seed, bytes32 digest) external view {
        (, bytes32 r, bytes32 s, uint8 v) = _signed(seed, digest);
        bytes32 high = bytes32(ORDER - uint256(s));
        checkEqual(
            address(0), this.recover(digest, abi.encodePacked(r, high, v == 27 ? uint8(28) : uint8(27))), "high s"
        );
    }

    /// @dev Half the order is the highest s there is, and OpenZeppelin's too.
    function testFuzz_the_highest_s_is_somebody(uint256 seed, bytes32 digest) external view {
        (, bytes32 r,, uint8 v) = _signed(seed, digest);
        bytes memory signature = abi.encodePacked(r, ORDER / 2, v);
        address signer = this.recover(digest, signature);
        check(signer != address(0), "somebody");
        checkEqual(this.byOpenZeppelin(digest, signature), signer, "as OpenZeppelin");
        checkEqual(address(0), this.recover(digest, abi.encodePacked(r, ORDER / 2 + 1, v)), "one more is nobody");
    }

    function testFuzz_only_27_and_28(uint256 seed, bytes32 digest, uint8 v) external view {
        (uint256 key, bytes32 r, bytes32 s, uint8 right) = _signed(seed, digest);
        address signer = this.recover(digest, abi.encodePacked(r, s, v));
        if (v == right) checkEqual(vm.addr(key), signer, "the right one");
        else check(signer != vm.addr(key), "another v is another signer, or none");
        if (v != 27 && v != 28) checkEqual(address(0), signer, "no such v");
    }

    function testFuzz_other_lengths_are_nobody(bytes32 digest, bytes calldata signature) external view {
        address signer = this.recover(digest, signature);
        if (signature.length != 64 && signature.length != 65) checkEqual(address(0), signer, "length");
        if (signature.length == 65) checkEqual(this.byOpenZeppelin(digest, signature), signer, "as OpenZeppelin");
    }

    function testFuzz_a_byte_more_or_less_is_nobody(uint256 seed, bytes32 digest, bytes1 tail) external view {
        (, bytes32 r, bytes32 s, uint8 v) = _signed(seed, digest);
        checkEqual(address(0), this.recover(digest, abi.encodePacked(r, s, v, tail)), "66 bytes");
        checkEqual(address(0), this.recover(digest, bytes.concat(r, bytes31(s))), "63 bytes");
        checkEqual(address(0), this.recover(digest, ""), "none");
    }

    function testFuzz_another_digest_is_another_signer(uint256 seed, bytes32 digest, uint8 bit) external view {
        (uint256 key, bytes32 r, bytes32 s, uint8 v) = _signed(seed, digest);
        bytes32 other = bytes32(uint256(digest) ^ (1 << bit));
        check(this.recover(other, abi.encodePacked(r, s, v)) != vm.addr(key), "another digest");
    }

    function _signed(uint256 seed, bytes32 digest) private pure returns (uint256 key, bytes32 r, bytes32 s, uint8 v) {
        key = 1 + seed % (ORDER - 1);
        (v, r, s) = vm.sign(key, digest);
    }
}
