// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IComputeEscrow} from "../../../contracts/interfaces/IComputeEscrow.sol";
import {ITaskMarket} from "../../../contracts/interfaces/ITaskMarket.sol";
import {AloneStage} from "../base/AloneStage.sol";
import {vm} from "../base/Vm.sol";

/// @notice Rows of one batch: neighbours are paid together only where all four parties are the same, each row finds what
/// those before it left, and none lends its signature to the next.
contract BatchEdges is AloneStage {
    uint16 private constant DISPATCHER_BPS = 1000;
    uint16 private constant ROYALTY_BPS = 500;

    /// @dev The open task has the first.
    uint256 private _nonce;

    // ------------------------------------------------------------------ who is paid

    /// @dev Sixteen rows, each of which differs from the one before it in one party alone.
    function test_each_row_pays_its_own_parties() external {
        vm.prank(people[1]);
        escrow.deposit(people[1], 1_000_000);
        (uint128 had,) = escrow.accountOf(_consumer);
        ITaskMarket.AcceptedProof[] memory proofs = new ITaskMarket.AcceptedProof[](16);
        uint256[4][2] memory expected;
        for (uint256 i; i < proofs.length; ++i) {
            // The bits of a Gray code.
            uint256 code = i ^ (i >> 1);
            ITaskMarket.TaskTerms memory terms = _order(people[code & 1], uint128(1000 + 100 * i));
            terms.dispatcher = (code >> 2) & 1 == 0 ? dispatcher : treasury;
            terms.dispatcherBps = DISPATCHER_BPS;
            terms.royaltyTo = (code >> 3) & 1 == 0 ? appOwner : stranger;
            terms.royaltyBps = ROYALTY_BPS;
            proofs[i] = _proof(terms, people[PROVIDER_FROM + ((code >> 1) & 1)]);
            uint256 charge = terms.flat;
            expected[code & 1][0] += charge;
            expected[(code >> 1) & 1][1] += charge - charge / 10 - charge / 20;
            expected[(code >> 2) & 1][2] += charge / 10;
            expected[(code >> 3) & 1][3] += charge / 20;
        }
        bool[] memory settled = market.proveMany(proofs);
        for (uint256 i; i < settled.length; ++i) {
            check(settled[i], "settled");
        }
        (uint128 left,) = escrow.accountOf(_consumer);
        checkEqual(expected[0][0], had - left, "one consumer");
        (left,) = escrow.accountOf(people[1]);
        checkEqual(expected[1][0], 1_000_000 - left, "the other");
        checkEqual(expected[0][1], _credit(people[PROVIDER_FROM]), "one provider");
        checkEqual(expected[1][1], _credit(people[PROVIDER_FROM + 1]), "the other");
        checkEqual(expected[0][2], _credit(dispatcher), "one dispatcher");
        checkEqual(expected[1][2], _credit(treasury), "the other");
        checkEqual(expected[0][3], _credit(appOwner), "one owner");
        checkEqual(expected[1][3], _credit(stranger), "the other");
    }

    /// @dev Case 36: no signature recovers to the zero address, which is also nobody's name at the start of a run.
    function test_no_row_lends_its_signature() external {
        ITaskMarket.AcceptedProof[] memory proofs = new ITaskMarket.AcceptedProof[](4);
        for (uint256 i; i < proofs.length; ++i) {
            proofs[i] = _proof(_order(_consumer, 10), people[PROVIDER_FROM + i / 2]);
        }
        (proofs[0].receiptR, proofs[0].receiptVs) = (0, 0);
        // The run of the second provider begins with a receipt that the first one signed.
        (, bytes32 receipt) = market.receiptOf(proofs[2].terms, proofs[2].usage);
        (proofs[2].receiptR, proofs[2].receiptVs) = signedWords(keyOf[_provider], receipt);
        bytes memory reason =
            abi.encodeWithSelector(ITaskMarket.InvalidReceiptSignature.selector, people[PROVIDER_FROM + 1], _provider);
        vm.expectEmit(address(market));
        emit ITaskMarket.ProofSkipped(
            0, abi.encodeWithSelector(ITaskMarket.InvalidReceiptSignature.selector, _provider, address(0))
        );
        vm.expectEmit(address(market));
        emit ITaskMarket.ProofSkipped(2, reason);
        bool[] memory settled = market.proveMany(proofs);
        check(!settled[0] && settled[1] && !settled[2] && settled[3], "each with its own signature");
        checkEqual(10, _credit(_provider), "one");
        checkEqual(10, _credit(people[PROVIDER_FROM + 1]), "one");
    }

    // ------------------------------------------------------------------ out of what

    /// @dev Two orders take the last unit; a third finds nothing, and those before it are paid.
    function test_a_row_finds_what_the_rows_before_it_left() external {
        _keep(30);
        ITaskMarket.AcceptedProof[] memory proofs = new ITaskMarket.AcceptedProof[](3);
        proofs[0] = _proof(_order(_consumer, 10), _provider);
        proofs[1] = _proof(_order(_consumer, 20), _provider);
        proofs[2] = _proof(_order(_consumer, 1), _provider);
        vm.expectEmit(address(market));
        emit ITaskMarket.ProofSkipped(
            2, abi.encodeWithSelector(IComputeEscrow.InsufficientAvailable.selector, uint256(1), uint256(0))
        );
        bool[] memory settled = market.proveMany(proofs);
        check(settled[0] && settled[1] && !settled[2], "two of three");
        checkEqual(30, _credit(_provider), "the last unit");
        check(!market.nonceUsed(_consumer, proofs[2].terms.nonce), "the order can still be paid");
    }

    /// @dev A task's rest pays for the order behind it, to the unit.
    function test_what_a_task_brings_back_pays_the_next_row() external {
        _keep(0);
        ITaskMarket.AcceptedProof[] memory proofs = new ITaskMarket.AcceptedProof[](3);
        proofs[0] = _proof(_terms, _provider);
        uint128 rest = _terms.maxCharge - 7 - 3 - 1000;
        proofs[1] = _proof(_order(_consumer, rest + 1), _provider);
        proofs[2] = _proof(_order(_consumer, rest), _provider);
        bool[] memory settled = market.proveMany(proofs);
        check(settled[0] && !settled[1] && settled[2], "the rest and no more");
        checkEqual(_terms.maxCharge, _credit(_provider), "all of it");
        checkEqual(0, _locked(), "nothing is locked any more");
        settled = market.proveMany(proofs);
        check(!settled[0] && !settled[1] && !settled[2], "once");
    }

    /// @dev A task that costs nothing gives everything back; so does an order that costs nothing, which had nothing locked.
    function test_a_task_that_costs_nothing_unlocks() external {
        ITaskMarket.TaskTerms memory terms = _order(_consumer, 0);
        terms.maxCharge = 50;
        vm.prank(_consumer);
        market.createTask(terms, "");
        uint256 locked = _locked();
        ITaskMarket.AcceptedProof[] memory proofs = new ITaskMarket.AcceptedProof[](1);
        proofs[0] = _proof(terms, _provider);
        check(market.proveMany(proofs)[0], "the task");
        checkEqual(locked - 50, _locked(), "unlocked");
        (uint128 available,) = escrow.accountOf(_consumer);
        checkEqual(100 * TALLY - _terms.maxCharge, available, "and spendable");
        proofs[0] = _proof(_order(_consumer, 0), _provider);
        check(market.proveMany(proofs)[0], "the order");
        checkEqual(0, _credit(_provider), "for nothing");
        check(!market.proveMany(proofs)[0], "once");
        checkEqual(0, market.proveMany(new ITaskMarket.AcceptedProof[](0)).length, "no row, no answer");
    }

    // ------------------------------------------------------------------ what does not hold

    /// @dev A task that came too late is still its consumer's to take back, in a batch of one or of many.
    function test_a_task_that_ended_is_skipped_and_stays() external {
        ITaskMarket.AcceptedProof[] memory proofs = new ITaskMarket.AcceptedProof[](2);
        proofs[0] = _proof(_terms, _provider);
        proofs[1] = proofs[0];
        vm.warp(_terms.deadline + 1);
        bool[] memory settled = market.proveMany(proofs);
        check(!settled[0] && !settled[1], "too late");
        checkEqual(0, _credit(_provider), "nothing is paid");
        checkEqual(_terms.maxCharge, _locked(), "still locked");
        market.reclaim(_terms);
        checkEqual(0, _locked(), "refunded");
    }

    /// @dev Each of the reasons, as it would be said of the row alone.
    function test_a_row_is_skipped_for_its_own_reason() external {
        ITaskMarket.AcceptedProof[] memory proofs = new ITaskMarket.AcceptedProof[](3);
        for (uint256 i; i < proofs.length; ++i) {
            proofs[i] = _proof(_order(_consumer, 10), _provider);
        }
        proofs[0].usage.startedAtMs = proofs[0].usage.endedAtMs + 1;
        ITaskMarket.Usage memory usage = proofs[0].usage;
        proofs[1].usage.gpuMs = 1;
        (, bytes32 receipt) = market.receiptOf(proofs[2].terms, proofs[2].usage);
        proofs[2].acceptance = _accepted(proofs[2].terms, receipt, stranger);
        bytes4[3] memory selectors = [
            ITaskMarket.EndedBeforeStart.selector,
            ITaskMarket.TooMuchGpuTime.selector,
            ITaskMarket.InvalidAcceptanceSignature.selector
        ];
        bytes[3] memory reasons = [
            abi.encodeWithSelector(selectors[0], usage.startedAtMs, usage.endedAtMs),
            abi.encodeWithSelector(selectors[1], 0, 1),
            abi.encodeWithSelector(selectors[2], _consumer, stranger)
        ];
        for (uint256 i; i < 3; ++i) {
            vm.expectEmit(address(market));
            emit ITaskMarket.ProofSkipped(i, reasons[i]);
        }
        market.proveMany(proofs);
    }

    function test_a_task_that_is_proven_is_skipped_and_stays() external {
        ITaskMarket.ProvenWork memory work = _proven();
        ITaskMarket.AcceptedProof[] memory proofs = new ITaskMarket.AcceptedProof[](1);
        proofs[0] = _proof(_terms, _provider);
        check(!market.proveMany(proofs)[0], "not open");
        vm.warp(block.timestamp + MIN_CHALLENGE_S + 1);
        market.finalize(_terms, work, "");
        checkEqual(work.charge, _credit(_provider), "paid as it was proven");
    }

    /// @dev Late, with terms that cannot be, accepted by somebody else, or under terms that nobody signed: the nonce is free.
    function test_an_order_that_is_skipped_can_still_be_paid() external {
        ITaskMarket.AcceptedProof[] memory proofs = new ITaskMarket.AcceptedProof[](4);
        ITaskMarket.TaskTerms memory terms = _order(_consumer, 10);
        terms.deadline = _leaseFrom + 9;
        proofs[0] = _proof(terms, _provider);
        terms = _order(_consumer, 10);
        terms.challengeWindow = 0;
        proofs[1] = _proof(terms, _provider);
        proofs[2] = _proof(_order(_consumer, 10), _provider);
        (, bytes32 receipt) = market.receiptOf(proofs[2].terms, proofs[2].usage);
        bytes memory good = proofs[2].acceptance;
        proofs[2].acceptance = _accepted(proofs[2].terms, receipt, stranger);
        terms = _order(_consumer, 10);
        terms.signer = stranger;
        proofs[3] = _proof(terms, _provider);
        (, receipt) = market.receiptOf(terms, proofs[3].usage);
        proofs[3].acceptance = _accepted(terms, receipt, stranger);
        bool[] memory settled = market.proveMany(proofs);
        for (uint256 i; i < settled.length; ++i) {
            check(!settled[i], "skipped");
            check(!market.nonceUsed(_consumer, proofs[i].terms.nonce), "free");
        }
        checkEqual(0, _credit(_provider), "nothing is paid");
        proofs[2].acceptance = good;
        proofs[3].termsSignature = signed(keyOf[_consumer], market.digestOfTaskTerms(terms), false);
        settled = market.proveMany(proofs);
        check(!settled[0] && !settled[1] && settled[2] && settled[3], "those that hold now");
        checkEqual(20, _credit(_provider), "two are paid");
    }

    // ------------------------------------------------------------------ acts

    function _accepted(ITaskMarket.TaskTerms memory terms, bytes32 receipt, address by)
        private
        view
        returns (bytes memory)
    {
        bytes32 id = market.digestOfTaskTerms(terms);
        bytes32 acceptance = market.digestOfAcceptance(ITaskMarket.Acceptance(id, 10, receipt));
        return signed(keyOf[by], acceptance, false);
    }

    function _order(address consumer, uint128 price) private returns (ITaskMarket.TaskTerms memory terms) {
        terms.consumer = consumer;
        terms.flat = price;
        terms.maxCharge = price;
        terms.maxSeconds = 1000;
        terms.deadline = _terms.deadline;
        terms.challengeWindow = MIN_CHALLENGE_S;
        terms.nonce = ++_nonce;
    }

    /// @dev All but `amount` of what the consumer can spend is taken out.
    function _keep(uint128 amount) private {
        (uint128 available,) = escrow.accountOf(_consumer);
        vm.prank(_consumer);
        escrow.withdraw(available - amount, _consumer);
    }

    function _proof(ITaskMarket.TaskTerms memory terms, address provider)
        private
        returns (ITaskMarket.AcceptedProof memory proof)
    {
        vm.warp(_leaseFrom + 10);
        proof.terms = terms;
        proof.usage = _usage(0, 1000, 1, terms.gpus == 0 ? 0 : 1000);
        proof.usage.provider = provider;
        (ITaskMarket.Receipt memory receipt, bytes32 digest) = market.receiptOf(terms, proof.usage);
        (proof.receiptR, proof.receiptVs) = signedWords(keyOf[provider], digest);
        bytes32 acceptance =
            market.digestOfAcceptance(ITaskMarket.Acceptance(market.digestOfTaskTerms(terms), receipt.total, digest));
        proof.acceptance = signed(keyOf[terms.consumer], acceptance, false);
    }
}
