// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {IComputeEscrow} from "../interfaces/IComputeEscrow.sol";
import {ITaskMarket} from "../interfaces/ITaskMarket.sol";
import {CallPricing} from "../libraries/CallPricing.sol";
import {MessageHash} from "../libraries/MessageHash.sol";
import {Signatures} from "../libraries/Signatures.sol";
import {TallystickDomain} from "../libraries/TallystickDomain.sol";

/// @notice For tests: the libraries from outside, under the domain of any escrow.
contract Harness is TallystickDomain {
    constructor(address escrow) TallystickDomain(escrow) {}

    function hashOfTaskTerms(ITaskMarket.TaskTerms calldata terms) external pure returns (bytes32) {
        return MessageHash.hash(terms);
    }

    function hashOfReceipt(ITaskMarket.Receipt calldata receipt) external pure returns (bytes32) {
        return MessageHash.hash(receipt);
    }

    function hashOfAssignment(ITaskMarket.Assignment calldata assignment) external pure returns (bytes32) {
        return MessageHash.hashAssignment(
            assignment.taskId, assignment.provider, assignment.fence, assignment.leaseFrom, assignment.leaseUntil
        );
    }

    function hashOfAcceptance(ITaskMarket.Acceptance calldata acceptance) external pure returns (bytes32) {
        return MessageHash.hashAcceptance(acceptance.taskId, acceptance.total, acceptance.receipt);
    }

    function hashOfOperatorKey(address provider, address key) external pure returns (bytes32) {
        return MessageHash.hashOperatorKey(provider, key);
    }

    function hashOfVoucher(IComputeEscrow.Voucher calldata voucher) external pure returns (bytes32) {
        return MessageHash.hashVoucher(voucher.payer, voucher.provider, voucher.salt, voucher.total, voucher.receipt);
    }

    function hashOfChannelAllowance(IComputeEscrow.ChannelAllowance calldata allowance)
        external
        pure
        returns (bytes32)
    {
        return MessageHash.hash(allowance);
    }

    function digestOf(bytes32 structHash) external view returns (bytes32) {
        return _digest(structHash);
    }

    function recover(bytes32 digest, bytes calldata signature) external pure returns (address) {
        return Signatures.recover(digest, signature);
    }

    function recoverWords(bytes32 digest, bytes32 r, bytes32 vs) external pure returns (address) {
        return Signatures.recover(digest, r, vs);
    }

    function recoverByOpenZeppelin(bytes32 digest, bytes calldata signature) external pure returns (address signer) {
        (signer,,) = ECDSA.tryRecoverCalldata(digest, signature);
    }

    function chargesUp(uint256[6][] calldata rows) external pure returns (uint256[] memory charges) {
        charges = new uint256[](rows.length);
        for (uint256 i; i < rows.length; ++i) {
            charges[i] = CallPricing.chargeUp(rows[i][0], rows[i][1], rows[i][2], rows[i][3], rows[i][4], rows[i][5]);
        }
    }

    function sharesDown(uint256[2][] calldata rows) external pure returns (uint256[] memory shares) {
        shares = new uint256[](rows.length);
        for (uint256 i; i < rows.length; ++i) {
            shares[i] = CallPricing.shareDown(rows[i][0], rows[i][1]);
        }
    }

    function bondsUp(uint256[3][] calldata rows) external pure returns (uint256[] memory bonds) {
        bonds = new uint256[](rows.length);
        for (uint256 i; i < rows.length; ++i) {
            bonds[i] = CallPricing.bondUp(rows[i][0], rows[i][1], rows[i][2]);
        }
    }

    function discountedUp(uint256[2][] calldata rows) external pure returns (uint256[] memory amounts) {
        amounts = new uint256[](rows.length);
        for (uint256 i; i < rows.length; ++i) {
            amounts[i] = CallPricing.discountedUp(rows[i][0], rows[i][1]);
        }
    }
}
