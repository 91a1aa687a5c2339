// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IComputeEscrow} from "../../../contracts/interfaces/IComputeEscrow.sol";
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

    function testFuzz_any_bit_of_the_terms_counts(uint256[17] calldata words, uint8 field, uint8 bit) external view {
        bytes memory data = _fitted(words);
        ITaskMarket.TaskTerms memory terms = abi.decode(data, (ITaskMarket.TaskTerms));
        uint256 at_ = field % 17;
        uint256[17] memory widths = _widths();
        uint256 flip = 1 << (bit % widths[at_]);
        assembly ("memory-safe") {
            let place := add(add(data, 0x20), mul(at_, 0x20))
            mstore(place, xor(mload(place), flip))
        }
        ITaskMarket.TaskTerms memory other = abi.decode(data, (ITaskMarket.TaskTerms));
        check(market.digestOfTaskTerms(terms) != market.digestOfTaskTerms(other), "another digest");
    }

    function testFuzz_any_bit_of_a_voucher_counts(IComputeEscrow.Voucher calldata voucher, uint8 field, uint8 bit)
        external
        view
    {
        IComputeEscrow.Voucher memory other = voucher;
        if (field % 5 == 0) other.payer = address(uint160(other.payer) ^ uint160(1 << (bit % 160)));
        if (field % 5 == 1) other.provider = address(uint160(other.provider) ^ uint160(1 << (bit % 160)));
        if (field % 5 == 2) other.salt ^= uint96(1 << (bit % 96));
        if (field % 5 == 3) other.total ^= uint128(1 << (bit % 128));
        if (field % 5 == 4) other.receipt ^= bytes32(1 << bit);
        check(escrow.digestOfVoucher(voucher) != escrow.digestOfVoucher(other), "another digest");
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

    function _fitted(uint256[17] calldata words) private pure returns (bytes memory data) {
        uint256[17] memory widths = _widths();
        uint256[17] memory fitted;
        for (uint256 i; i < 17; ++i) {
            fitted[i] = widths[i] == 256 ? words[i] : words[i] % (1 << widths[i]);
        }
        return abi.encode(fitted);
    }

    function _widths() private pure returns (uint256[17] memory) {
        return [uint256(160), 160, 160, 160, 256, 32, 128, 128, 128, 16, 16, 128, 32, 64, 32, 32, 256];
    }
}
