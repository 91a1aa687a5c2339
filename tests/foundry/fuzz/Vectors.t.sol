// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IComputeEscrow} from "../../../contracts/interfaces/IComputeEscrow.sol";
import {IProviderStaking} from "../../../contracts/interfaces/IProviderStaking.sol";
import {ITaskMarket} from "../../../contracts/interfaces/ITaskMarket.sol";
import {Stage} from "../base/Stage.sol";
import {vm} from "../base/Vm.sol";

/// @notice The contracts' digests under chain ids and deployments of their own: any one bit flipped is another digest
/// (cases 37, 39), and the domain follows the chain id.
contract VectorsFuzz is Stage {
    function setUp() public {
        build();
    }

    function booksAreCovered() external pure returns (bool) {
        return true;
    }

    /// @dev Case 39: one bit of each field of each message, one after the other. The messages are flat, so that a digest's
    /// calldata are its fields.
    function testFuzz_any_bit_of_every_field_counts(uint256 seed) external view {
        uint16[17] memory terms = [uint16(160), 160, 160, 160, 256, 32, 128, 128, 128, 16, 16, 128, 32, 64, 32, 32, 256];
        _everyField(address(market), ITaskMarket.digestOfTaskTerms.selector, terms, seed);
        uint16[17] memory receipt = [uint16(160), 256, 64, 256, 256, 256, 256, 64, 64, 64, 64, 256, 128, 0, 0, 0, 0];
        _everyField(address(market), ITaskMarket.digestOfReceipt.selector, receipt, seed);
        uint16[17] memory assignment = [uint16(256), 160, 64, 64, 64, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        _everyField(address(market), ITaskMarket.digestOfAssignment.selector, assignment, seed);
        uint16[17] memory acceptance = [uint16(256), 128, 256, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        _everyField(address(market), ITaskMarket.digestOfAcceptance.selector, acceptance, seed);
        uint16[17] memory voucher = [uint16(160), 160, 96, 128, 256, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        _everyField(address(escrow), IComputeEscrow.digestOfVoucher.selector, voucher, seed);
        uint16[17] memory allowance = [uint16(160), 160, 128, 64, 256, 256, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        _everyField(address(escrow), IComputeEscrow.digestOfChannelAllowance.selector, allowance, seed);
        uint16[17] memory key = [uint16(160), 160, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        _everyField(address(staking), IProviderStaking.digestOfOperatorKey.selector, key, seed);
    }

    /// @param widths In bits; zero where there is no field any more.
    function _everyField(address target, bytes4 selector, uint16[17] memory widths, uint256 seed) private view {
        uint256 fields;
        while (fields < 17 && widths[fields] != 0) ++fields;
        uint256[] memory words = new uint256[](fields);
        for (uint256 i; i < fields; ++i) {
            words[i] = mix(seed, i) >> (256 - widths[i]);
        }
        bytes32 before = _digestOf(target, selector, words);
        for (uint256 i; i < fields; ++i) {
            uint256 flip = 1 << (mix(seed, 100 + i) % widths[i]);
            words[i] ^= flip;
            check(_digestOf(target, selector, words) != before, "another digest");
            words[i] ^= flip;
        }
        checkEqual(before, _digestOf(target, selector, words), "the same again");
    }

    function _digestOf(address target, bytes4 selector, uint256[] memory words) private view returns (bytes32) {
        (bool done, bytes memory answer) = target.staticcall(abi.encodePacked(selector, words));
        check(done, "a digest of fields within their types");
        return abi.decode(answer, (bytes32));
    }

    function testFuzz_another_chain_is_another_digest(IComputeEscrow.Voucher calldata voucher, uint64 id) external {
        vm.assume(id != block.chainid && id != 0);
        bytes32 here = escrow.digestOfVoucher(voucher);
        vm.chainId(id);
        check(escrow.digestOfVoucher(voucher) != here, "another digest");
    }

    function testFuzz_the_digest_is_that_of_the_standard(IComputeEscrow.Voucher calldata voucher) external view {
        bytes32 domain = keccak256(
            abi.encode(
                keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"),
                keccak256("Tallystick"),
                keccak256("1"),
                block.chainid,
                escrow
            )
        );
        bytes32 inside = keccak256(
            abi.encode(
                keccak256("Voucher(address payer,address provider,uint96 salt,uint128 total,bytes32 receipt)"),
                voucher.payer,
                voucher.provider,
                voucher.salt,
                voucher.total,
                voucher.receipt
            )
        );
        checkEqual(
            keccak256(abi.encodePacked(hex"1901", domain, inside)), escrow.digestOfVoucher(voucher), "the standard's"
        );
    }
}
