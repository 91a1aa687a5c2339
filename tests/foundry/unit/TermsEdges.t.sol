// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IComputeEscrow} from "../../../contracts/interfaces/IComputeEscrow.sol";
import {ITaskMarket} from "../../../contracts/interfaces/ITaskMarket.sol";
import {AloneStage} from "../base/AloneStage.sol";
import {vm} from "../base/Vm.sol";

/// @notice Terms and usage that cannot be, and what becomes of a proven task before its window is over.
contract TermsEdges is AloneStage {
    /// @dev Words of the terms and of a usage, in their order.
    uint256 private constant GPUS = 5;
    uint256 private constant FENCE = 1;
    uint256 private constant KEY = 0x0BE;

    // ------------------------------------------------------------------ terms

    function test_a_share_is_somebodys() external {
        _fresh();
        _terms.dispatcher = address(0);
        _terms.dispatcherBps = 1;
        _refused(abi.encodeWithSelector(ITaskMarket.ShareWithoutPayee.selector, 1));
        _terms.dispatcher = dispatcher;
        _terms.royaltyBps = 2;
        _refused(abi.encodeWithSelector(ITaskMarket.ShareWithoutPayee.selector, 2));
        _terms.royaltyTo = appOwner;
        _terms.royaltyBps = 3000;
        _refused(abi.encodeWithSelector(ITaskMarket.SharesTooHigh.selector, 3000, 3001));
        _terms.royaltyBps = 2999;
        _create();
    }

    function test_a_verification_has_a_rule_and_a_part() external {
        _fresh();
        // No rule; one that has no meaning; more than all of the work.
        uint32[3] memory wrong = [uint32(256), 3, 1 + 256 * 10_001];
        for (uint256 i; i < wrong.length; ++i) {
            _terms.verification = wrong[i];
            _refused(abi.encodeWithSelector(ITaskMarket.InvalidVerification.selector, wrong[i]));
        }
        _terms.verification = 2 + 256 * 10_000;
        _create();
    }

    function test_a_window_is_within_the_markets() external {
        _fresh();
        uint32[2] memory wrong = [MIN_CHALLENGE_S - 1, MAX_CHALLENGE_S + 1];
        for (uint256 i; i < wrong.length; ++i) {
            _terms.challengeWindow = wrong[i];
            _refused(
                abi.encodeWithSelector(
                    ITaskMarket.ChallengeWindowOutOfRange.selector, MIN_CHALLENGE_S, MAX_CHALLENGE_S, wrong[i]
                )
            );
        }
        _terms.challengeWindow = MAX_CHALLENGE_S;
        _create();
    }

    function test_a_nonce_is_used_once() external {
        check(market.nonceUsed(_consumer, 0), "by the task that is open");
        check(!market.nonceUsed(_consumer, 1), "the next is free");
        check(!market.nonceUsed(stranger, 0), "and everybody else's");
        _refused(abi.encodeWithSelector(ITaskMarket.NonceAlreadyUsed.selector, _consumer, 0));
        _fresh();
        _create();
        check(market.nonceUsed(_consumer, 1), "used");
    }

    /// @dev Case 49: a word wider than its type is no number that anybody signed.
    function test_no_word_of_the_terms_is_wider_than_its_type() external {
        _fresh();
        bytes memory wide = _widened(abi.encodeCall(ITaskMarket.createTask, (_terms, "")), GPUS);
        _refusedAs(wide, abi.encodeWithSelector(ITaskMarket.FieldTooWide.selector));
        wide = _widened(abi.encodeCall(ITaskMarket.chargeOf, (_terms, 1, 1000)), GPUS);
        _refusedAs(wide, abi.encodeWithSelector(ITaskMarket.FieldTooWide.selector));
        wide = _widened(abi.encodeCall(ITaskMarket.receiptOf, (_terms, _usage(0, 1000, 1, 1000))), 17 + FENCE);
        _refusedAs(wide, abi.encodeWithSelector(ITaskMarket.FieldTooWide.selector));
        checkEqual(7 + 3 + 1000, market.chargeOf(_terms, 1, 1000), "the price of one that fits");
    }

    function test_no_word_of_a_usage_is_wider_than_its_type() external {
        vm.warp(_leaseFrom + 10);
        // Behind the place of the proof itself and the terms.
        bytes memory wide = _widened(abi.encodeCall(ITaskMarket.prove, (_accepted(0))), 1 + 17 + FENCE);
        _refusedAs(wide, abi.encodeWithSelector(ITaskMarket.FieldTooWide.selector));
    }

    function test_a_bond_fits_its_type() external {
        // The floor and three whole charges.
        uint32 all = 256 * 10_000;
        uint128 most = (type(uint128).max - BOND_FLOOR) / 3;
        checkEqual(3 * uint256(most) + BOND_FLOOR, market.bondOf(all, most), "the dearest bond");
        uint256 bond_ = 3 * (uint256(most) + 1) + BOND_FLOOR;
        vm.expectRevert(abi.encodeWithSelector(ITaskMarket.BondTooLarge.selector, type(uint128).max, bond_));
        market.bondOf(all, most + 1);
    }

    /// @dev Who brings too little gas for the consumer's contract learns nothing of its answer.
    function test_a_contract_is_asked_with_enough_gas() external {
        _fresh();
        // The third of the people signs by contract.
        _terms.consumer = people[2];
        vm.prank(people[2]);
        escrow.deposit(people[2], _terms.maxCharge);
        bytes memory signature = signed(keyOf[people[2]], market.digestOfTaskTerms(_terms), false);
        (bool created, bytes memory answer) =
            address(market).call{gas: 100_000}(abi.encodeCall(ITaskMarket.createTask, (_terms, signature)));
        check(!created && bytes4(answer) == ITaskMarket.NotEnoughGas.selector, "refused");
        uint256 required;
        assembly ("memory-safe") {
            required := mload(add(answer, 0x24))
        }
        // 100,000 for the contract, the 63rd part that stays behind, and the way there.
        checkEqual(100_000 + 1_587 + 6_000, required, "said how much");
        market.createTask{gas: 400_000}(_terms, signature);
        check(market.nonceUsed(people[2], _terms.nonce), "created");
    }

    // ------------------------------------------------------------------ cancel

    function test_a_task_is_cancelled_until_its_deadline() external {
        vm.warp(_terms.deadline + 1);
        vm.expectRevert(
            abi.encodeWithSelector(ITaskMarket.DeadlinePassed.selector, _terms.deadline, _terms.deadline + 1)
        );
        vm.prank(_consumer);
        market.cancel(_terms);
        vm.warp(_terms.deadline);
        vm.prank(_consumer);
        market.cancel(_terms);
        vm.expectRevert(abi.encodeWithSelector(ITaskMarket.AlreadyCancelled.selector, _terms.deadline));
        vm.prank(_consumer);
        market.cancel(_terms);
    }

    function test_a_lease_begins_before_the_cancel() external {
        _cancelAfter(10);
        _leaseFrom += 11;
        vm.warp(_leaseFrom + 10);
        vm.expectRevert(abi.encodeWithSelector(ITaskMarket.LeaseAfterCancel.selector, _leaseFrom - 1, _leaseFrom));
        this.prove(0, 1000, 1, 1000);
        _leaseFrom -= 1;
        this.prove(0, 1000, 1, 1000);
    }

    /// @dev However long the lease is.
    function test_nothing_is_proven_alone_after_the_deadline() external {
        _leaseUntil = _terms.deadline + 1;
        vm.warp(_terms.deadline + 1);
        vm.expectRevert(
            abi.encodeWithSelector(ITaskMarket.DeadlinePassed.selector, _terms.deadline, _terms.deadline + 1)
        );
        this.prove(0, 1000, 1, 1000);
        vm.warp(_terms.deadline);
        this.prove(0, 1000, 1, 1000);
    }

    // ------------------------------------------------------------------ usage

    function test_gpu_time_is_some_gpus() external {
        vm.warp(_leaseFrom + 10);
        ITaskMarket.AcceptedProof memory proof = _accepted(0);
        proof.usage.gpuSet = 0;
        vm.expectRevert(abi.encodeWithSelector(ITaskMarket.GpuSetMissing.selector, 1));
        market.prove(proof);
    }

    function test_work_ends_after_it_starts() external {
        vm.warp(_leaseFrom + 10);
        ITaskMarket.AcceptedProof memory proof = _accepted(0);
        proof.usage.startedAtMs = proof.usage.endedAtMs + 1;
        vm.expectRevert(
            abi.encodeWithSelector(
                ITaskMarket.EndedBeforeStart.selector, proof.usage.startedAtMs, proof.usage.endedAtMs
            )
        );
        market.prove(proof);
    }

    // ------------------------------------------------------------------ proven

    function test_a_proven_task_is_not_proven_again() external {
        _proven();
        ITaskMarket.AcceptedProof memory proof = _accepted(0);
        vm.expectRevert(
            abi.encodeWithSelector(ITaskMarket.WrongStatus.selector, ITaskMarket.Status.Open, ITaskMarket.Status.Proven)
        );
        market.prove(proof);
        vm.expectRevert(
            abi.encodeWithSelector(ITaskMarket.WrongStatus.selector, ITaskMarket.Status.Open, ITaskMarket.Status.Proven)
        );
        this.prove(0, 1000, 1, 1000);
    }

    /// @dev After its window anybody ends it; before, only with the consumer's word.
    function test_a_window_ends_by_time_or_by_acceptance() external {
        ITaskMarket.ProvenWork memory work = _proven();
        uint64 endsAt = uint64(block.timestamp + MIN_CHALLENGE_S);
        bytes memory forged = _acceptance(stranger, work.charge, work.receipt);
        bytes memory good = _acceptance(_consumer, work.charge, work.receipt);
        vm.warp(endsAt);
        vm.expectRevert(abi.encodeWithSelector(ITaskMarket.ChallengeWindowOpen.selector, endsAt, endsAt));
        market.finalize(_terms, work, "");
        vm.expectRevert(abi.encodeWithSelector(ITaskMarket.InvalidAcceptanceSignature.selector, _consumer, stranger));
        market.finalize(_terms, work, forged);
        uint256 before = vm.snapshotState();
        market.finalize(_terms, work, good);
        checkEqual(work.charge, _credit(_provider), "paid at once");
        checkEqual(0, _locked(), "nothing is locked any more");
        vm.revertToState(before);
        vm.warp(endsAt + 1);
        market.finalize(_terms, work, "");
        checkEqual(work.charge, _credit(_provider), "paid after the window");
        checkEqual(0, _locked(), "nothing is locked any more");
    }

    function test_only_the_proof_that_was_shown_is_paid() external {
        ITaskMarket.ProvenWork memory work = _proven();
        vm.warp(block.timestamp + MIN_CHALLENGE_S + 1);
        work.charge += 1;
        vm.expectPartialRevert(ITaskMarket.WrongProof.selector);
        market.finalize(_terms, work, "");
        work.charge -= 1;
        market.finalize(_terms, work, "");
        checkEqual(work.charge, _credit(_provider), "the charge that was shown");
    }

    function test_without_verification_there_is_no_dispute() external {
        _fresh();
        _terms.verification = 0;
        _create();
        ITaskMarket.ProvenWork memory work = _proven();
        vm.expectRevert(ITaskMarket.NotDisputable.selector);
        vm.prank(_consumer);
        market.dispute(_terms, work);
    }

    // ------------------------------------------------------------------ orders

    /// @dev The provider's key signs the receipt, and a contract accepts what it ordered: once.
    function test_an_order_of_a_contract_is_paid_once() external {
        address wallet = people[2];
        address key = vm.addr(KEY);
        bytes memory consent = signed(KEY, staking.digestOfOperatorKey(_provider, key), false);
        vm.prank(_provider);
        staking.bindOperatorKey(key, consent);
        vm.prank(wallet);
        escrow.deposit(wallet, 5000);
        _fresh();
        _terms.consumer = wallet;
        vm.warp(_leaseFrom + 10);
        ITaskMarket.AcceptedProof memory proof = _accepted(keyOf[wallet]);
        (, bytes32 digest) = market.receiptOf(_terms, proof.usage);
        (proof.receiptR, proof.receiptVs) = signedWords(KEY, digest);
        market.proveOrder(proof);
        checkEqual(7 + 3 + 1000, _credit(_provider), "paid");
        vm.expectRevert(abi.encodeWithSelector(ITaskMarket.NonceAlreadyUsed.selector, wallet, _terms.nonce));
        market.proveOrder(proof);
        (uint128 available,) = escrow.accountOf(wallet);
        checkEqual(5000 - (7 + 3 + 1000), available, "once");
    }

    /// @dev Whoever proves need not know whether the task was created before.
    function test_an_order_is_paid_by_the_verb_for_tasks_too() external {
        _fresh();
        vm.warp(_leaseFrom + 10);
        ITaskMarket.AcceptedProof memory proof = _accepted(0);
        market.prove(proof);
        checkEqual(7 + 3 + 1000, _credit(_provider), "paid");
        vm.expectRevert(abi.encodeWithSelector(ITaskMarket.NonceAlreadyUsed.selector, _consumer, _terms.nonce));
        market.prove(proof);
    }

    function test_a_batch_passes_over_forged_words() external {
        vm.warp(_leaseFrom + 10);
        ITaskMarket.AcceptedProof[] memory proofs = new ITaskMarket.AcceptedProof[](4);
        for (uint256 i; i < proofs.length; ++i) {
            proofs[i] = _accepted(0);
        }
        proofs[0].usage.gpuSet = 0;
        proofs[1].receiptVs = bytes32(uint256(proofs[1].receiptVs) ^ 1);
        proofs[2].acceptance = _accepted(keyOf[stranger]).acceptance;
        bool[] memory settled = market.proveMany(proofs);
        check(!settled[0], "GPU time of no GPU");
        check(!settled[1], "a receipt of somebody else");
        check(!settled[2], "an acceptance of somebody else");
        check(settled[3], "the true one");
        checkEqual(7 + 3 + 1000, _credit(_provider), "paid once");
    }

    /// @dev A row that does not hold is passed over with its reason, and those around it are paid.
    function test_a_batch_passes_over_what_does_not_hold() external {
        vm.warp(_leaseFrom + 10);
        ITaskMarket.AcceptedProof[] memory proofs = new ITaskMarket.AcceptedProof[](4);
        // The task that is open.
        proofs[0] = _accepted(0);
        // An order whose terms cannot be.
        _fresh();
        _terms.verification = 3;
        proofs[1] = _accepted(0);
        // One that costs more than the consumer has: all but what the task brings back is taken out before.
        _fresh();
        _terms.verification = 0;
        _terms.flat = 1_000_000;
        _terms.maxCharge = 2_000_000;
        proofs[2] = _accepted(0);
        // One that is accepted by somebody whom the consumer let sign, under terms that the consumer did not sign.
        _fresh();
        _terms.flat = 7;
        _terms.signer = stranger;
        proofs[3] = _accepted(keyOf[stranger]);
        (uint128 available,) = escrow.accountOf(_consumer);
        vm.prank(_consumer);
        escrow.withdraw(available, _consumer);

        bool[] memory settled = market.proveMany(proofs);
        check(settled[0], "the task");
        check(!settled[1], "terms that cannot be");
        check(!settled[2], "no money for it");
        check(!settled[3], "terms of nobody");
        checkEqual(7 + 3 + 1000, _credit(_provider), "one is paid");

        vm.expectRevert(abi.encodeWithSelector(ITaskMarket.InvalidVerification.selector, 3));
        market.proveOrder(proofs[1]);
        vm.expectPartialRevert(IComputeEscrow.InsufficientAvailable.selector);
        market.proveOrder(proofs[2]);
        vm.expectRevert(abi.encodeWithSelector(ITaskMarket.InvalidTermsSignature.selector, _consumer, address(0)));
        market.proveOrder(proofs[3]);
        proofs[3].termsSignature = signed(keyOf[_consumer], _id, false);
        market.proveOrder(proofs[3]);
        checkEqual(2 * (7 + 3 + 1000), _credit(_provider), "two are paid");
    }

    // ------------------------------------------------------------------ acts

    /// @dev The same terms under a nonce that is free.
    function _fresh() private {
        ++_terms.nonce;
        _id = market.digestOfTaskTerms(_terms);
    }

    function _create() private {
        vm.prank(_consumer);
        _id = market.createTask(_terms, "");
    }

    function _refused(bytes memory reason) private {
        vm.expectRevert(reason);
        vm.prank(_consumer);
        market.createTask(_terms, "");
    }

    /// @dev Whatever the encoder of this language does not write.
    function _refusedAs(bytes memory data, bytes memory reason) private {
        vm.prank(_consumer);
        // solhint-disable-next-line avoid-low-level-calls
        (bool done, bytes memory answer) = address(market).call(data);
        check(!done, "too wide");
        checkEqual(keccak256(reason), keccak256(answer), "for this reason");
    }

    /// @dev The highest bit of one word of the arguments.
    function _widened(bytes memory data, uint256 word) private pure returns (bytes memory) {
        data[4 + 32 * word] |= 0x80;
        return data;
    }

    /// @param signerKey Of whoever accepts; zero: of the consumer.
    function _accepted(uint256 signerKey) private returns (ITaskMarket.AcceptedProof memory proof) {
        _id = market.digestOfTaskTerms(_terms);
        proof.terms = _terms;
        proof.usage = _usage(0, 1000, 1, 1000);
        (ITaskMarket.Receipt memory receipt, bytes32 digest) = market.receiptOf(_terms, proof.usage);
        (proof.receiptR, proof.receiptVs) = signedWords(keyOf[_provider], digest);
        proof.acceptance = _acceptance(signerKey == 0 ? keyOf[_consumer] : signerKey, receipt.total, digest);
    }

    function _acceptance(address signer, uint128 total, bytes32 receipt) private view returns (bytes memory) {
        return _acceptance(keyOf[signer], total, receipt);
    }

    function _acceptance(uint256 key, uint128 total, bytes32 receipt) private view returns (bytes memory) {
        return signed(key, market.digestOfAcceptance(ITaskMarket.Acceptance(_id, total, receipt)), false);
    }
}
