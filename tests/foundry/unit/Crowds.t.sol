// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IComputeEscrow} from "../../../contracts/interfaces/IComputeEscrow.sol";
import {ITaskMarket} from "../../../contracts/interfaces/ITaskMarket.sol";
import {MockUSDC} from "../../../contracts/mocks/Tokens.sol";
import {Check} from "../base/Check.sol";
import {Stage} from "../base/Stage.sol";
import {vm} from "../base/Vm.sol";

/// @notice One act of somebody, and its gas.
struct Cost {
    string act;
    uint256 gasUsed;
}

/// @notice A deployment, a crowd in it, and one person who does each thing once.
contract Town is Stage {
    address private _provider;
    uint256 private _strangers;
    uint256 private _offences;
    uint256 private _gasBefore;
    Cost[] private _costs;

    function booksAreCovered() external pure returns (bool) {
        return true;
    }

    constructor() {
        build();
        _provider = people[PROVIDER_FROM];
        bond.mint(_provider, 1e9 * TALLY);
        payment.mint(address(staking), 1e9 * TALLY);
    }

    // ------------------------------------------------------------------ rounds of acts

    /// @dev Each verb of a pool once, by somebody who was never here; the pot is never emptied meanwhile.
    function roundOfAPool(address somebody) external returns (Cost[] memory) {
        delete _costs;
        uint256 shares = _delegated(somebody, 60 * TALLY);
        _begin();
        vm.prank(address(escrow));
        staking.addFees(_provider, 1e9);
        _note("addFees");
        later(block.timestamp + DAY_S);
        _begin();
        vm.prank(somebody);
        staking.claimRewards(_provider, somebody);
        _note("claimRewards");
        for (uint256 i; i < 2; ++i) {
            _begin();
            vm.prank(somebody);
            staking.requestUndelegate(_provider, uint160(shares / 3), 0);
            _note("requestUndelegate");
        }
        vm.prank(_provider);
        staking.stake(UNIT);
        (uint128 bonded,) = staking.stakeOf(_provider);
        address[] memory beneficiaries = new address[](1);
        beneficiaries[0] = somebody;
        _begin();
        vm.prank(address(court));
        staking.slash(_provider, bonded + 100, bytes32(++_offences), beneficiaries);
        _note("slash");
        later(block.timestamp + UNBONDING_S);
        _begin();
        vm.prank(somebody);
        staking.withdrawDelegation(0, somebody);
        _note("withdrawDelegation");
        return _costs;
    }

    function roundOfRequests(address somebody) external returns (Cost[] memory) {
        delete _costs;
        uint256 shares = _delegated(somebody, 20 * TALLY);
        checkEqual(0, staking.undelegateRequestsOf(somebody), "nobody asked in its name");
        _begin();
        vm.prank(somebody);
        staking.requestUndelegate(_provider, uint160(shares / 2), 0);
        _note("requestUndelegate");
        later(block.timestamp + UNBONDING_S);
        _begin();
        vm.prank(somebody);
        checkEqual(10 * TALLY, staking.withdrawDelegation(0, somebody), "all of it");
        _note("withdrawDelegation");
        return _costs;
    }

    /// @dev Deposit, task and its refund, channel, voucher and close, withdrawal: from the same state each time.
    function roundOfMoney(address somebody) external returns (Cost[] memory) {
        delete _costs;
        _begin();
        vm.prank(somebody);
        escrow.deposit(somebody, 1000);
        _note("deposit");
        ITaskMarket.TaskTerms memory terms = _terms(somebody, 10, ++_offences);
        _begin();
        vm.prank(somebody);
        market.createTask(terms, "");
        _note("createTask");
        later(terms.deadline + 1);
        _begin();
        market.reclaim(terms);
        _note("reclaim");
        IComputeEscrow.Channel memory channel =
            IComputeEscrow.Channel(somebody, vm.addr(sessionKeyOf[somebody]), _provider, uint96(_offences));
        _begin();
        vm.prank(somebody);
        escrow.fund(channel, 100);
        _note("fund");
        IComputeEscrow.Row[] memory rows = _rows(channel, 40);
        _begin();
        escrow.redeem(_provider, rows);
        _note("redeem");
        _begin();
        vm.prank(somebody);
        escrow.requestClose(channel);
        _note("requestClose");
        later(block.timestamp + CLOSE_S);
        _begin();
        escrow.close(channel);
        _note("close");
        _begin();
        escrow.withdrawCredit(_provider, new IComputeEscrow.Row[](0));
        _note("withdrawCredit");
        (uint128 available,) = escrow.accountOf(somebody);
        _begin();
        vm.prank(somebody);
        escrow.withdraw(available, stranger);
        _note("withdraw");
        return _costs;
    }

    // ------------------------------------------------------------------ the crowd

    /// @dev Each of them has a test's whole gas, and no more: a crowd needs more than that.
    function delegateAll(uint256 size) external {
        for (uint256 i; i < size; ++i) {
            this.delegateOne(i);
            vm.resetGasMetering();
        }
    }

    /// @dev One at a time, so that memory is given back.
    function delegateOne(uint256 i) external {
        address one = address(uint160(0xD0000000 + ++_strangers));
        _arrive(one, 30 * TALLY);
        if (i % 3 != 2) return;
        vm.prank(one);
        staking.requestUndelegate(_provider, uint160(20 * TALLY), 0);
    }

    function _arrive(address one, uint256 amount) private {
        bond.mint(one, amount);
        vm.prank(one);
        bond.approve(address(staking), amount);
        vm.prank(one);
        staking.delegate(_provider, uint128(amount), 0);
    }

    function _delegated(address somebody, uint128 amount) private returns (uint256 shares) {
        _begin();
        vm.prank(somebody);
        shares = staking.delegate(_provider, amount, 0);
        _note("delegate");
    }

    function dust(uint256 size) external {
        for (uint256 i; i < size; ++i) {
            this.dustOne();
            vm.resetGasMetering();
        }
    }

    /// @dev Of one person, behind the same provider.
    function requests(uint256 size) external {
        address one = address(uint160(0xC0DE));
        _arrive(one, (size + 1) * 10 * TALLY);
        for (uint256 i; i < size; ++i) {
            vm.prank(one);
            staking.requestUndelegate(_provider, uint160(10 * TALLY), 0);
            vm.resetGasMetering();
        }
        checkEqual(size, staking.undelegateRequestsOf(one), "its own");
    }

    function dustOne() external {
        address one = address(uint160(0xD0000000 + ++_strangers));
        payment.mint(one, 2);
        vm.prank(one);
        payment.approve(address(escrow), 2);
        vm.prank(one);
        escrow.deposit(one, 1);
        vm.prank(one);
        escrow.depositToChannel(IComputeEscrow.Channel(one, one, _provider, 0), 1);
        ITaskMarket.TaskTerms memory terms = _terms(one, 1, 0);
        vm.prank(one);
        market.createTask(terms, "");
    }

    function _terms(address consumer, uint128 maxCharge, uint256 nonce)
        private
        view
        returns (ITaskMarket.TaskTerms memory terms)
    {
        terms.consumer = consumer;
        terms.dispatcher = dispatcher;
        terms.maxCharge = maxCharge;
        terms.deadline = uint64(block.timestamp + 100);
        terms.challengeWindow = MIN_CHALLENGE_S;
        // A word of its own for each, as a newcomer's first nonce has.
        terms.nonce = nonce << 8;
    }

    function _rows(IComputeEscrow.Channel memory channel, uint128 total)
        private
        view
        returns (IComputeEscrow.Row[] memory rows)
    {
        bytes32 digest = escrow.digestOfVoucher(
            IComputeEscrow.Voucher(channel.payer, channel.provider, channel.salt, total, bytes32("receipt"))
        );
        (bytes32 r, bytes32 vs) = signedWords(sessionKeyOf[channel.payer], digest);
        rows = new IComputeEscrow.Row[](1);
        uint256 payerAndSalt = (uint256(uint160(channel.payer)) << 96) | channel.salt;
        rows[0] = IComputeEscrow.Row(payerAndSalt, total, bytes32("receipt"), r, vs);
    }

    // ------------------------------------------------------------------ figures

    function _begin() private {
        _gasBefore = gasleft();
    }

    function _note(string memory act) private {
        _costs.push(Cost(act, _gasBefore - gasleft()));
    }
}

/// @notice Strangers by the thousand: what one person's act costs does not depend on them (cases 8, 9, 60, 68).
contract Crowds is Check {
    uint256 private constant FEW = 3;
    uint256 private constant MANY = 10_000;

    Town private _small;
    Town private _large;

    function setUp() public {
        _small = new Town();
        _large = new Town();
    }

    /// @dev Case 68: slash, reward and exit with 10,000 delegators, a third of them on their way out.
    function test_ten_thousand_delegators_make_no_act_dearer() external {
        _small.delegateAll(FEW);
        _large.delegateAll(MANY);
        for (uint256 i; i < 2; ++i) {
            _checkFlat(_small.roundOfAPool(_small.people(i)), _large.roundOfAPool(_large.people(i)));
        }
    }

    /// @dev Cases 9 and 60: whoever asks counts its own requests; 1,000 of a stranger cost nobody.
    function test_a_thousand_requests_of_a_stranger_are_in_nobodys_way() external {
        _small.requests(FEW);
        _large.requests(1000);
        _checkFlat(_small.roundOfRequests(_small.people(0)), _large.roundOfRequests(_large.people(0)));
    }

    /// @dev Case 8: 10,000 strangers with an account, a channel and a task of one unit each, all of them with the same
    /// provider and dispatcher.
    function test_dust_of_ten_thousand_strangers_makes_no_act_dearer() external {
        _small.dust(FEW);
        _large.dust(MANY);
        for (uint256 i; i < 2; ++i) {
            _checkFlat(_small.roundOfMoney(_small.people(i)), _large.roundOfMoney(_large.people(i)));
        }
    }

    function _checkFlat(Cost[] memory few, Cost[] memory many) private pure {
        checkEqual(few.length, many.length, "as many acts");
        for (uint256 i; i < few.length; ++i) {
            check(few[i].gasUsed > 5000, "measured");
            checkAtMost(few[i].gasUsed * 105 / 100, many[i].gasUsed, string.concat("gas with a crowd: ", many[i].act));
        }
    }
}

/// @notice Many payees of one payer: a cap holds for all of them, and one that fails stops no other (cases 5 and 40).
contract ManyPayees is Stage {
    function booksAreCovered() external pure returns (bool) {
        return true;
    }

    function setUp() public {
        build();
    }

    /// @dev Case 40: 64 uses of one allowance, over eight providers and eight channels each: the cap in sum, to the unit.
    function test_64_uses_of_an_allowance_stay_within_its_cap() external {
        address payer = people[0];
        address signer = vm.addr(sessionKeyOf[payer]);
        vm.prank(payer);
        escrow.deposit(payer, 1000);
        IComputeEscrow.ChannelAllowance memory allowance =
            IComputeEscrow.ChannelAllowance(payer, signer, 500, type(uint64).max, bytes32("app"), 7);
        bytes32 id = escrow.digestOfChannelAllowance(allowance);
        bytes memory signature = signed(keyOf[payer], id, false);
        uint256 funded;
        uint256 refused;
        for (uint256 i; i < 64; ++i) {
            bytes memory data = abi.encodeCall(
                IComputeEscrow.fundWithAllowance,
                (allowance, signature, address(uint160(0xF00 + i % 8)), uint96(i / 8), uint128(11))
            );
            vm.prank(signer);
            // solhint-disable-next-line avoid-low-level-calls
            (bool done,) = address(escrow).call(data);
            if (done) funded += 11;
            else ++refused;
        }
        // 45 times 11 is the most that fits 500.
        checkEqual(495, funded, "funded");
        checkEqual(64 - 45, refused, "refused");
        (uint128 spent,) = escrow.allowanceOf(payer, id);
        checkEqual(495, spent, "spent");
        (uint128 available,) = escrow.accountOf(payer);
        checkEqual(1000 - 495, available, "left");
        uint256 inChannels;
        for (uint256 i; i < 64; ++i) {
            IComputeEscrow.Channel memory channel =
                IComputeEscrow.Channel(payer, signer, address(uint160(0xF00 + i % 8)), uint96(i / 8));
            (uint128 deposited,,) = escrow.channelOf(escrow.channelIdOf(channel));
            inChannels += deposited;
        }
        checkEqual(495, inChannels, "in the channels of all providers");
    }

    /// @dev Case 5: a hundred payees of one token, the seventh frozen by it: 99 are paid, its credit stays and leaves by
    /// another address.
    function test_one_frozen_payee_among_a_hundred() external {
        MockUSDC usdc = new MockUSDC(people[0], 1e12);
        deployNeighbours(address(usdc), address(bond));
        address payer = people[0];
        vm.prank(payer);
        usdc.approve(address(escrow), type(uint256).max);
        usdc.freeze(_payee(7));
        uint256 refused;
        for (uint256 i; i < 100; ++i) {
            IComputeEscrow.Channel memory channel =
                IComputeEscrow.Channel(payer, vm.addr(sessionKeyOf[payer]), _payee(i), 0);
            vm.prank(payer);
            escrow.depositToChannel(channel, 1_000_000);
            IComputeEscrow.Row[] memory rows = _rows(channel, uint128(100 + i));
            escrow.redeem(_payee(i), rows);
            // solhint-disable-next-line avoid-low-level-calls
            (bool done,) = address(escrow)
                .call(abi.encodeCall(IComputeEscrow.withdrawCredit, (_payee(i), new IComputeEscrow.Row[](0))));
            if (!done) ++refused;
        }
        checkEqual(1, refused, "one is refused by the token");
        for (uint256 i; i < 100; ++i) {
            (uint128 credit, uint128 fee) = escrow.payeeOf(_payee(i));
            bool frozen = i == 7;
            checkEqual(frozen ? 107 : 0, credit, "credit");
            checkEqual(frozen ? 0 : (100 + i) / 100, fee, "fee");
            checkEqual(frozen ? 0 : 100 + i - (100 + i) / 100, usdc.balanceOf(_payee(i)), "paid");
        }
        vm.prank(_payee(7));
        escrow.setPayoutAddress(_payee(7), stranger);
        escrow.withdrawCredit(_payee(7), new IComputeEscrow.Row[](0));
        checkEqual(107 - 1, usdc.balanceOf(stranger), "pulled elsewhere");
    }

    function _payee(uint256 i) private pure returns (address) {
        return address(uint160(0xBEE000 + i));
    }

    function _rows(IComputeEscrow.Channel memory channel, uint128 total)
        private
        view
        returns (IComputeEscrow.Row[] memory rows)
    {
        bytes32 digest = escrow.digestOfVoucher(
            IComputeEscrow.Voucher(channel.payer, channel.provider, channel.salt, total, bytes32("receipt"))
        );
        (bytes32 r, bytes32 vs) = signedWords(sessionKeyOf[channel.payer], digest);
        rows = new IComputeEscrow.Row[](1);
        uint256 payerAndSalt = (uint256(uint160(channel.payer)) << 96) | channel.salt;
        rows[0] = IComputeEscrow.Row(payerAndSalt, total, bytes32("receipt"), r, vs);
    }
}
