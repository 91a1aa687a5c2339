// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {ITaskMarket} from "../../../contracts/interfaces/ITaskMarket.sol";
import {vm} from "../base/Vm.sol";
import {ChannelActs} from "./ChannelActs.sol";

/// @notice Consumers order, providers prove, everybody tries to be paid twice.
abstract contract MarketActs is ChannelActs {
    /// @dev What is wrong with a proof, if anything.
    enum Twist {
        None,
        TooMuchGpuTime,
        EndsInFuture,
        EndsBeforeStart,
        NoGpuSet,
        ReceiptByStranger,
        AcceptanceByStranger,
        AcceptanceOfLess,
        OtherTerms
    }

    /// @notice Proofs alone that got through with a lease that did not hold.
    uint256 public staleLeasesPaid;

    // ------------------------------------------------------------------ orders

    /// @notice Nothing of the contracts: a consumer signs terms and keeps its money.
    function order(uint256 seed) external {
        address consumer = consumerBy(seed);
        (ITaskMarket.TaskTerms memory terms,) = _terms(consumer, seed, available[consumer], false);
        _remember(terms, State.Order);
    }

    function market_createTask(uint256 seed) external {
        if (seed % 4 == 0) return _createFromOrder(seed >> 2);
        address consumer = consumerBy(seed);
        (ITaskMarket.TaskTerms memory terms, bool good) = _terms(consumer, seed, available[consumer], true);
        bytes32 id = market.digestOfTaskTerms(terms);
        bool bySignature = seed % 4 == 1;
        address from = bySignature ? stranger : consumer;
        bytes memory signature = bySignature ? signedBy(consumer, id, seed % 8 == 1) : bytes("");
        if (bySignature && !signsFor(consumer) && from != consumer) good = false;
        if (terms.maxCharge > available[consumer]) good = false;
        (bool done,) = attempt(
            from,
            address(market),
            abi.encodeCall(ITaskMarket.createTask, (terms, signature)),
            good,
            Law.Terms,
            "createTask"
        );
        if (!done) return;
        _lock(terms);
        _remember(terms, State.Open);
    }

    function _createFromOrder(uint256 seed) private {
        Task storage task = pickTask(seed, State.Order, State.Order);
        ITaskMarket.TaskTerms memory terms = task.terms;
        bool good = task.state == State.Order && signsFor(terms.consumer) && block.timestamp <= terms.deadline
            && available[terms.consumer] >= terms.maxCharge;
        bytes memory data =
            abi.encodeCall(ITaskMarket.createTask, (terms, signedBy(terms.consumer, task.id, seed % 2 == 0)));
        // A consumer of this task who calls itself needs no signature.
        (bool done,) = attempt(stranger, address(market), data, good, Law.OnePayment, "createTask of an order");
        if (!done) return;
        _lock(terms);
        task.state = State.Open;
    }

    function market_cancel(uint256 seed) external {
        Task storage task = liveTask(seed, State.Open);
        ITaskMarket.TaskTerms memory terms = task.terms;
        address from = seed % 16 == 3 ? stranger : terms.consumer;
        bool good = task.state == State.Open && task.cancelledAt == 0 && block.timestamp <= terms.deadline
            && from == terms.consumer;
        (bool done,) =
            attempt(from, address(market), abi.encodeCall(ITaskMarket.cancel, (terms)), good, Law.Terms, "cancel");
        if (done) task.cancelledAt = uint64(block.timestamp);
    }

    function market_reclaim(uint256 seed) external {
        Task storage task = _pickEnded(seed);
        ITaskMarket.TaskTerms memory terms = task.terms;
        bool good = task.state == State.Open && block.timestamp > _endOf(task);
        (bool done,) =
            attempt(stranger, address(market), abi.encodeCall(ITaskMarket.reclaim, (terms)), good, Law.Exit, "reclaim");
        if (!done) return;
        locked[terms.consumer] -= terms.maxCharge;
        available[terms.consumer] += terms.maxCharge;
        task.state = State.Refunded;
    }

    // ------------------------------------------------------------------ proofs with acceptance

    function market_prove(uint256 seed) external {
        _proveOne(seed, false);
    }

    function market_proveOrder(uint256 seed) external {
        _proveOne(seed, true);
    }

    function _proveOne(uint256 seed, bool asOrder) private {
        Task storage task = liveTask(seed, asOrder ? State.Order : State.Open);
        (ITaskMarket.AcceptedProof memory proof, bool good, uint256 charge) = _accepted(task, mix(seed, 1));
        bytes memory data =
            asOrder ? abi.encodeCall(ITaskMarket.proveOrder, (proof)) : abi.encodeCall(ITaskMarket.prove, (proof));
        (bool done,) = attempt(stranger, address(market), data, good, Law.OnePayment, "prove");
        if (done) _settled(task, proof.usage.provider, charge);
    }

    function market_proveMany(uint256 seed) external {
        if (tasks.length == 0) revert Refused("there is no task");
        uint256 rows = 1 + seed % 3;
        ITaskMarket.AcceptedProof[] memory proofs = new ITaskMarket.AcceptedProof[](rows);
        uint256[] memory which = new uint256[](rows);
        uint256[] memory charges = new uint256[](rows);
        for (uint256 row; row < rows; ++row) {
            // A row twice in one batch is part of it.
            which[row] = _indexOf(liveTask(mix(seed, row) | (row == 2 ? 0 : 1), row == 0 ? State.Order : State.Open));
            (proofs[row],, charges[row]) = _accepted(tasks[which[row]], mix(seed, 10 + row));
        }
        vm.prank(stranger);
        bool[] memory settled = market.proveMany(proofs);
        bool any;
        for (uint256 row; row < rows; ++row) {
            // Asked again, row by row: an earlier one may have spent what this one needs.
            (, bool good,) = _accepted(tasks[which[row]], mix(seed, 10 + row));
            if (settled[row] != good) violate(Law.OnePayment, "proveMany");
            if (!settled[row]) continue;
            any = true;
            _settled(tasks[which[row]], proofs[row].usage.provider, charges[row]);
        }
        if (!any) revert Refused("proveMany");
    }

    // ------------------------------------------------------------------ proofs alone

    function market_proveAlone(uint256 seed) external {
        Task storage task = liveTask(seed, State.Open);
        _proveAlone(task, mix(seed, 2));
    }

    function _proveAlone(Task storage task, uint256 seed) private {
        ITaskMarket.TaskTerms memory terms = task.terms;
        ITaskMarket.LeasedProof memory proof;
        proof.terms = terms;
        bool good;
        (proof.usage, good) = _usage(terms, seed, _twist(seed, 5));
        if (seed % 8 != 1) proof.usage.calls %= 2;
        uint256 started = proof.usage.startedAtMs / 1000;
        proof.leaseFrom = uint64(seed % 32 == 5 ? started + 1 : started > 60 ? started - 60 : 0);
        proof.leaseUntil = uint64(seed % 8 == 3 ? block.timestamp - 1 : block.timestamp + seed % 600);
        good = good && proof.usage.calls <= 1 && _leaseHolds(task, proof)
            && staking.unitsOf(proof.usage.provider) >= terms.gpus && task.state == State.Open;

        (, bytes32 digest) = market.receiptOf(terms, proof.usage);
        uint256 pen = seed % 16 == 7 ? strangePen(proof.usage.provider, seed) : penOf(proof.usage.provider, seed);
        proof.receiptSignature = signed(pen, digest, seed % 2 == 0);
        good = good && _writesFor(pen, proof.usage.provider);
        good = _assign(task, proof, seed) && good;

        (bool done,) = attempt(
            stranger, address(market), abi.encodeCall(ITaskMarket.proveAlone, (proof)), good, Law.Lease, "proveAlone"
        );
        if (!done) return;
        if (!_leaseHolds(task, proof)) ++staleLeasesPaid;
        _proven(task, proof.usage, digest);
    }

    /// @dev The rule in words of its own: begun inside the lease and posted until its end, or until the task's if the
    /// lease was in force when the consumer cancelled.
    function _leaseHolds(Task storage task, ITaskMarket.LeasedProof memory proof) private view returns (bool) {
        if (proof.usage.startedAtMs < uint256(proof.leaseFrom) * 1000) return false;
        uint256 end = _endOf(task);
        if (block.timestamp > end) return false;
        if (task.cancelledAt == 0) return block.timestamp <= proof.leaseUntil;
        if (proof.leaseFrom > task.cancelledAt) return false;
        return proof.leaseUntil >= task.cancelledAt || block.timestamp <= proof.leaseUntil;
    }

    function _assign(Task storage task, ITaskMarket.LeasedProof memory proof, uint256 seed)
        private
        view
        returns (bool good)
    {
        ITaskMarket.Assignment memory assignment = ITaskMarket.Assignment(
            task.id, proof.usage.provider, proof.usage.fence, proof.leaseFrom, proof.leaseUntil
        );
        good = task.terms.dispatcher == dispatcher;
        uint256 pen = keyOf[dispatcher];
        uint256 twist = (seed >> 20) % 24;
        if (twist == 0) pen = keyOf[stranger];
        if (twist == 1) assignment.fence += 1;
        if (twist == 2) assignment.provider = appOwner;
        if (twist == 3) assignment.leaseUntil -= 1;
        if (twist < 4 && !(twist == 2 && proof.usage.provider == appOwner)) good = false;
        proof.assignment = signed(pen, market.digestOfAssignment(assignment), false);
    }

    function market_finalize(uint256 seed) external {
        Task storage task = provenTask(seed);
        if (seed % 4 != 1 && task.state == State.Proven && task.windowEndsAt >= block.timestamp) {
            later(uint256(task.windowEndsAt) + 1);
        }
        ITaskMarket.TaskTerms memory terms = task.terms;
        ITaskMarket.ProvenWork memory work = ITaskMarket.ProvenWork(task.provider, task.charge, task.receipt);
        uint256 twist = (seed >> 130) % 24;
        if (twist == 0) work.charge += 1;
        if (twist == 1) work.provider = appOwner;
        bool accepts = seed % 4 == 1;
        uint256 pen = twist == 2 ? keyOf[stranger] : keyOf2(terms.consumer);
        bytes memory acceptance;
        if (accepts) {
            acceptance = signed(
                pen,
                market.digestOfAcceptance(ITaskMarket.Acceptance(task.id, work.charge, work.receipt)),
                seed % 8 == 1 && !isWallet(terms.consumer)
            );
        }
        bool over = block.timestamp > task.windowEndsAt;
        bool good = task.state == State.Proven && twist != 0 && (twist != 1 || task.provider == appOwner)
            && (over || (accepts && signsFor(terms.consumer) && (twist != 2 || terms.consumer == stranger)));
        (bool done,) = attempt(
            stranger,
            address(market),
            abi.encodeCall(ITaskMarket.finalize, (terms, work, acceptance)),
            good,
            Law.OnePayment,
            "finalize"
        );
        if (!done) return;
        locked[terms.consumer] -= task.charge;
        _earn(task, task.provider, task.charge);
    }

    // ------------------------------------------------------------------ what the books should do

    function _lock(ITaskMarket.TaskTerms memory terms) private {
        available[terms.consumer] -= terms.maxCharge;
        locked[terms.consumer] += terms.maxCharge;
        usedNonce[terms.consumer][terms.nonce] = true;
    }

    function _settled(Task storage task, address provider, uint256 charge) private {
        address consumer = task.terms.consumer;
        if (task.state == State.Open) {
            locked[consumer] -= task.terms.maxCharge;
            available[consumer] += task.terms.maxCharge;
        }
        available[consumer] -= charge;
        usedNonce[consumer][task.terms.nonce] = true;
        task.charge = uint128(charge);
        _earn(task, provider, charge);
    }

    function _earn(Task storage task, address provider, uint256 charge) internal {
        uint256 forDispatcher = charge * task.terms.dispatcherBps / 10_000;
        uint256 forAppOwner = charge * task.terms.royaltyBps / 10_000;
        if (forDispatcher != 0) credit[task.terms.dispatcher] += forDispatcher;
        if (forAppOwner != 0) credit[task.terms.royaltyTo] += forAppOwner;
        credit[provider] += charge - forDispatcher - forAppOwner;
        task.provider = provider;
        task.state = State.Settled;
        ++task.payments;
    }

    function _proven(Task storage task, ITaskMarket.Usage memory usage, bytes32 receipt) private {
        uint256 calls = usage.calls;
        uint256 gpuMs = usage.gpuMs;
        if (task.cancelledAt != 0) {
            uint256 cutMs = uint256(task.cancelledAt) * 1000;
            uint256 before = usage.startedAtMs < cutMs ? cutMs - usage.startedAtMs : 0;
            if (before == 0) calls = 0;
            gpuMs = least(gpuMs, before * task.terms.gpus);
        }
        uint256 charge = priceOf(task.terms, calls, gpuMs);
        uint256 rest = task.terms.maxCharge - charge;
        locked[task.terms.consumer] -= rest;
        available[task.terms.consumer] += rest;
        task.state = State.Proven;
        task.provider = usage.provider;
        task.charge = uint128(charge);
        task.receipt = receipt;
        task.provenAt = uint64(block.timestamp);
        task.windowEndsAt = uint64(block.timestamp + task.terms.challengeWindow);
        task.backing = uint128(task.terms.gpus) * UNIT;
    }

    /// @notice The price in plain, checked arithmetic.
    function priceOf(ITaskMarket.TaskTerms memory terms, uint256 calls, uint256 gpuMs) public pure returns (uint256) {
        uint256 product = uint256(terms.ratePerGpuSecond) * gpuMs;
        uint256 time = product / 1000 + (product % 1000 == 0 ? 0 : 1);
        return least(terms.maxCharge, terms.flat + uint256(terms.feePerCall) * calls + time);
    }

    // ------------------------------------------------------------------ terms and usage

    function _remember(ITaskMarket.TaskTerms memory terms, State state) private {
        Task storage task = tasks.push();
        task.terms = terms;
        task.id = market.digestOfTaskTerms(terms);
        task.state = state;
        ++nextNonce;
    }

    function _terms(address consumer, uint256 seed, uint256 budget, bool mayBeBad)
        private
        view
        returns (ITaskMarket.TaskTerms memory terms, bool good)
    {
        uint256 chance = mix(seed, 20);
        good = true;
        terms.consumer = consumer;
        if (chance % 2 == 0) terms.signer = vm.addr(sessionKeyOf[consumer]);
        if (chance % 8 != 1) (terms.dispatcher, terms.dispatcherBps) = (dispatcher, uint16((chance >> 8) % 1501));
        if (chance % 4 == 1) (terms.royaltyTo, terms.royaltyBps) = (appOwner, uint16((chance >> 24) % 1500));
        terms.spec = bytes32(chance);
        terms.gpus = uint32((chance >> 40) % 5);
        uint256 scale = (chance >> 48) % 4;
        uint256 most = scale == 0 ? 3 : scale == 1 ? type(uint128).max : TALLY;
        terms.flat = uint128(within(mix(chance, 1), 0, least(most, 5 * TALLY)));
        terms.feePerCall = uint128(within(mix(chance, 2), 0, least(most, TALLY)));
        terms.ratePerGpuSecond = uint128(within(mix(chance, 3), 0, most));
        // Above what is there now and then; an order's money may still arrive.
        terms.maxCharge = uint128(within(mix(chance, 4), 0, least(budget / 3 + 1, 500 * TALLY)));
        terms.maxSeconds = uint32(1 + (chance >> 56) % 7200);
        terms.deadline = uint64(block.timestamp + (chance >> 72) % (3 days));
        terms.challengeWindow = uint32(within(mix(chance, 5), MIN_CHALLENGE_S, MAX_CHALLENGE_S));
        // Rule 1 or 2, and up to all of the work for each checker to repeat.
        if (verifies() && chance % 2 == 1) {
            terms.verification = uint32(1 + (chance >> 110) % 2 + 256 * ((chance >> 112) % 10_001));
        }
        terms.nonce = nextNonce;
        if (mayBeBad) good = _spoil(terms, (chance >> 100) % 48);
    }

    function _spoil(ITaskMarket.TaskTerms memory terms, uint256 how) private view returns (bool good) {
        if (how == 0) terms.dispatcherBps = uint16(3001 - terms.royaltyBps);
        else if (how == 1) (terms.royaltyTo, terms.royaltyBps) = (address(0), 1);
        else if (how == 2) (terms.dispatcher, terms.dispatcherBps) = (address(0), 1);
        else if (how == 3) terms.challengeWindow = MIN_CHALLENGE_S - 1;
        else if (how == 4) terms.challengeWindow = MAX_CHALLENGE_S + 1;
        else if (how == 5) terms.deadline = uint64(block.timestamp - 1);
        else if (how == 6) terms.verification = 3;
        else if (how == 8) terms.verification = 256;
        else if (how == 9) terms.verification = 1 + 256 * 10_001;
        else if (how == 7 && tasks.length != 0) return _sameNonce(terms);
        else if (how == 10) return _mostShares(terms);
        else return true;
        return false;
    }

    /// @dev All that shares may take together.
    function _mostShares(ITaskMarket.TaskTerms memory terms) private view returns (bool) {
        (terms.dispatcher, terms.dispatcherBps) = (dispatcher, uint16(3000 - terms.royaltyBps));
        return true;
    }

    /// @dev A nonce is used up by creation or payment, not by a signature.
    function _sameNonce(ITaskMarket.TaskTerms memory terms) private view returns (bool) {
        terms.nonce = tasks[0].terms.nonce;
        return !usedNonce[terms.consumer][terms.nonce];
    }

    /// @dev Whether terms may ask for verification.
    function verifies() internal view virtual returns (bool) {
        return false;
    }

    function _twist(uint256 seed, uint256 kinds) private pure returns (Twist) {
        uint256 chance = (seed >> 140) % 64;
        return chance < kinds ? Twist(chance) : Twist.None;
    }

    function _usage(ITaskMarket.TaskTerms memory terms, uint256 seed, Twist twist)
        private
        view
        returns (ITaskMarket.Usage memory usage, bool good)
    {
        good = twist == Twist.None || uint256(twist) > uint256(Twist.NoGpuSet);
        usage.provider = providerBy(mix(seed, 1));
        usage.fence = uint64(1 + (seed >> 30) % 3);
        usage.result = bytes32(mix(seed, 2));
        usage.gpuSet = bytes32(mix(seed, 3));
        usage.usageRoot = bytes32(mix(seed, 4));
        uint256 endedAtMs = block.timestamp * 1000 + 999 - within(mix(seed, 5), 0, 100_000);
        uint256 elapsedMs = within(mix(seed, 6), 0, uint256(terms.maxSeconds) * 1000);
        usage.gpuMs = uint64(within(mix(seed, 7), 0, elapsedMs * terms.gpus));
        usage.calls = uint64(mix(seed, 8) % 16 == 0 ? type(uint64).max : mix(seed, 8) % 100);
        if (twist == Twist.TooMuchGpuTime) usage.gpuMs = uint64(elapsedMs * terms.gpus + 1);
        if (twist == Twist.EndsInFuture) endedAtMs = block.timestamp * 1000 + 1000;
        usage.endedAtMs = uint64(endedAtMs);
        usage.startedAtMs = uint64(endedAtMs - elapsedMs);
        if (twist == Twist.EndsBeforeStart) usage.startedAtMs = usage.endedAtMs + 1;
        if (twist == Twist.NoGpuSet) {
            usage.gpuSet = 0;
            good = terms.gpus == 0;
        }
    }

    function _accepted(Task storage task, uint256 seed)
        private
        view
        returns (ITaskMarket.AcceptedProof memory proof, bool good, uint256 charge)
    {
        Twist twist = _twist(seed, 9);
        ITaskMarket.TaskTerms memory terms = task.terms;
        proof.terms = terms;
        (proof.usage, good) = _usage(terms, seed, twist);
        charge = priceOf(terms, proof.usage.calls, proof.usage.gpuMs);
        good = good && _mayBePaid(task, charge);

        (, bytes32 receipt) = market.receiptOf(terms, proof.usage);
        address provider = proof.usage.provider;
        uint256 pen = twist == Twist.ReceiptByStranger ? strangePen(provider, seed) : penOf(provider, seed);
        good = good && _writesFor(pen, provider);
        (proof.receiptR, proof.receiptVs) = signedWords(pen == 0 ? 1 : pen, receipt);

        if (twist == Twist.AcceptanceOfLess) {
            if (charge == 0) return (proof, false, charge);
            return (_accept(task, proof, charge - 1, receipt, keyOf2(terms.consumer), seed), false, charge);
        }
        bool bySession = terms.signer != address(0) && seed % 4 == 0;
        pen = bySession ? sessionKeyOf[terms.consumer] : keyOf2(terms.consumer);
        if (twist == Twist.AcceptanceByStranger) pen = keyOf[stranger];
        good = good
            && (bySession
                    ? twist != Twist.AcceptanceByStranger || terms.consumer == stranger
                    : signsFor(terms.consumer) && (twist != Twist.AcceptanceByStranger || terms.consumer == stranger));
        // The session key accepts, it does not order.
        if (task.state == State.Order && bySession) good = good && signsFor(terms.consumer);
        _accept(task, proof, charge, receipt, pen, seed);
        if (twist == Twist.OtherTerms) {
            proof.terms.maxCharge += 1;
            good = false;
        }
    }

    function _accept(
        Task storage task,
        ITaskMarket.AcceptedProof memory proof,
        uint256 charge,
        bytes32 receipt,
        uint256 pen,
        uint256 seed
    ) private view returns (ITaskMarket.AcceptedProof memory) {
        bytes32 digest = market.digestOfAcceptance(ITaskMarket.Acceptance(task.id, uint128(charge), receipt));
        proof.acceptance = signed(pen, digest, seed % 2 == 0 && !isWallet(task.terms.consumer));
        proof.termsSignature = signedBy(task.terms.consumer, task.id, seed % 2 == 1);
        return proof;
    }

    function _mayBePaid(Task storage task, uint256 charge) private view returns (bool) {
        if (block.timestamp > _endOf(task)) return false;
        if (task.state == State.Open) return true;
        return task.state == State.Order && available[task.terms.consumer] >= charge
            && !usedNonce[task.terms.consumer][task.terms.nonce];
    }

    function _endOf(Task storage task) internal view returns (uint256) {
        uint256 deadline = task.terms.deadline;
        return task.cancelledAt == 0 ? deadline : least(deadline, uint256(task.cancelledAt) + CANCEL_S);
    }

    function _pickEnded(uint256 seed) private returns (Task storage task) {
        task = liveTask(seed, State.Open);
        for (uint256 i; i < tasks.length && seed % 8 != 0; ++i) {
            Task storage other = tasks[((seed >> 8) + i) % tasks.length];
            if (other.state == State.Open && block.timestamp > _endOf(other)) return other;
        }
        if (seed % 2 == 1) later(_endOf(task) + 1);
    }

    // ------------------------------------------------------------------ what an act needs, if it is not there

    /// @dev One in this state that has not ended; made if there is none. Sometimes any: what must not happen is tried too.
    function liveTask(uint256 seed, State wanted) internal returns (Task storage task) {
        uint256 total = tasks.length;
        if (total != 0 && seed % 16 == 0) return tasks[(seed >> 8) % total];
        for (uint256 i; i < total && i < 12; ++i) {
            task = tasks[((seed >> 8) + i) % total];
            if (task.state == wanted && block.timestamp <= _endOf(task)) return task;
        }
        return newTask(seed, wanted == State.Order);
    }

    /// @dev Small enough to be paid for, big enough to be worth something, and disputable.
    function newTask(uint256 seed, bool asOrder) internal returns (Task storage task) {
        address consumer = people[(seed >> 16) % CONSUMERS];
        (ITaskMarket.TaskTerms memory terms,) = _terms(consumer, seed, available[consumer] / 4, false);
        terms.deadline = uint64(block.timestamp + 1 days);
        (terms.dispatcher, terms.dispatcherBps) = (dispatcher, uint16(seed % 1000));
        terms.gpus = uint32(seed % 3);
        terms.verification = uint32(1 + 256 * ((seed >> 30) % 2000));
        if (!asOrder) {
            vm.prank(consumer);
            market.createTask(terms, "");
            _lock(terms);
        }
        _remember(terms, asOrder ? State.Order : State.Open);
        return tasks[tasks.length - 1];
    }

    function provenTask(uint256 seed) internal returns (Task storage task) {
        if (tasks.length != 0) {
            task = pickTask(seed, State.Proven, State.Proven);
            if (task.state == State.Proven || seed % 16 == 0) return task;
        }
        task = newTask(seed, false);
        proveHonestly(task, seed);
    }

    /// @dev A whole provider, a lease in force, nothing to object to.
    function proveHonestly(Task storage task, uint256 seed) internal {
        ITaskMarket.LeasedProof memory proof;
        proof.terms = task.terms;
        (proof.usage,) = _usage(task.terms, seed, Twist.None);
        proof.usage.provider = people[PROVIDER_FROM + (seed >> 4) % PROVIDERS];
        proof.usage.calls = 1;
        proof.leaseFrom = proof.usage.startedAtMs / 1000;
        proof.leaseUntil = uint64(block.timestamp);
        (, bytes32 digest) = market.receiptOf(task.terms, proof.usage);
        proof.receiptSignature = signed(keyOf[proof.usage.provider], digest, false);
        ITaskMarket.Assignment memory assignment =
            ITaskMarket.Assignment(task.id, proof.usage.provider, proof.usage.fence, proof.leaseFrom, proof.leaseUntil);
        proof.assignment = signed(keyOf[dispatcher], market.digestOfAssignment(assignment), true);
        market.proveAlone(proof);
        _proven(task, proof.usage, digest);
    }

    function _indexOf(Task storage task) private view returns (uint256 i) {
        while (tasks[i].id != task.id) ++i;
    }

    function _writesFor(uint256 pen, address provider) private view returns (bool) {
        if (pen == 0) return false;
        address signer = vm.addr(pen);
        return signer == provider || (boundTo[signer] == provider && retiredAt[signer] == 0);
    }

    /// @dev The wallets take their owner's signatures in one form only.
    function isWallet(address somebody) internal view returns (bool) {
        return somebody == people[2] || somebody == people[3];
    }

    function signedBy(address somebody, bytes32 digest, bool compact) internal view returns (bytes memory) {
        return signed(keyOf2(somebody), digest, compact && !isWallet(somebody));
    }

    /// @dev Who has no key of its own signs with one that is nobody's.
    function keyOf2(address somebody) internal view returns (uint256) {
        return keyOf[somebody] == 0 ? 1 : keyOf[somebody];
    }

    /// @dev The flooding wallet's contract answers more than its gas can pay for, so its signature never counts.
    function signsFor(address consumer) internal view returns (bool) {
        return keyOf[consumer] != 0 && consumer != people[3];
    }
}
