// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IComputeEscrow} from "../../../contracts/interfaces/IComputeEscrow.sol";
import {IDisputeCourt} from "../../../contracts/interfaces/IDisputeCourt.sol";
import {IProviderStaking} from "../../../contracts/interfaces/IProviderStaking.sol";
import {ITaskMarket} from "../../../contracts/interfaces/ITaskMarket.sol";
import {Stage} from "../base/Stage.sol";
import {vm} from "../base/Vm.sol";

/// @notice What no deployment can be built with: the last value that a constructor takes, and the first that it refuses.
contract BuildEdges is Stage {
    uint256 private constant PROTOCOL_FEE_LIMIT_BPS = 500;
    uint32 private constant SHORTEST_CLOSE_S = 1 hours;
    uint32 private constant LONGEST_CLOSE_S = 30 days;

    function booksAreCovered() external pure returns (bool) {
        return true;
    }

    function setUp() public {
        build();
    }

    // ------------------------------------------------------------------ the escrow

    function test_an_escrow_needs_everybody_it_pays() external {
        address[4] memory all = [address(payment), address(market), address(staking), treasury];
        this.deployed("ComputeEscrow", abi.encode(all, PROTOCOL_FEE_BPS, POOL_SHARE_BPS, CLOSE_S));
        for (uint256 i; i < all.length; ++i) {
            address one = all[i];
            all[i] = address(0);
            vm.expectRevert(IComputeEscrow.ZeroAddress.selector);
            this.deployed("ComputeEscrow", abi.encode(all, PROTOCOL_FEE_BPS, POOL_SHARE_BPS, CLOSE_S));
            all[i] = one;
        }
    }

    function test_the_protocols_fee_has_a_limit() external {
        this.deployed("ComputeEscrow", _escrowWith(PROTOCOL_FEE_LIMIT_BPS, POOL_SHARE_BPS, CLOSE_S));
        vm.expectRevert(
            abi.encodeWithSelector(
                IComputeEscrow.ProtocolFeeTooHigh.selector, PROTOCOL_FEE_LIMIT_BPS, PROTOCOL_FEE_LIMIT_BPS + 1
            )
        );
        this.deployed("ComputeEscrow", _escrowWith(PROTOCOL_FEE_LIMIT_BPS + 1, POOL_SHARE_BPS, CLOSE_S));
    }

    function test_a_pool_has_no_more_than_all_of_the_fee() external {
        this.deployed("ComputeEscrow", _escrowWith(PROTOCOL_FEE_BPS, 10_000, CLOSE_S));
        vm.expectRevert(abi.encodeWithSelector(IComputeEscrow.PoolShareTooHigh.selector, 10_000, 10_001));
        this.deployed("ComputeEscrow", _escrowWith(PROTOCOL_FEE_BPS, 10_001, CLOSE_S));
    }

    function test_a_close_takes_an_hour_to_thirty_days() external {
        this.deployed("ComputeEscrow", _escrowWith(PROTOCOL_FEE_BPS, POOL_SHARE_BPS, SHORTEST_CLOSE_S));
        this.deployed("ComputeEscrow", _escrowWith(PROTOCOL_FEE_BPS, POOL_SHARE_BPS, LONGEST_CLOSE_S));
        _expectCloseOutOfRange(SHORTEST_CLOSE_S - 1);
        this.deployed("ComputeEscrow", _escrowWith(PROTOCOL_FEE_BPS, POOL_SHARE_BPS, SHORTEST_CLOSE_S - 1));
        _expectCloseOutOfRange(LONGEST_CLOSE_S + 1);
        this.deployed("ComputeEscrow", _escrowWith(PROTOCOL_FEE_BPS, POOL_SHARE_BPS, LONGEST_CLOSE_S + 1));
    }

    // ------------------------------------------------------------------ the staking

    function test_a_staking_needs_a_token_an_escrow_and_a_unit() external {
        vm.expectRevert(IProviderStaking.ZeroAddress.selector);
        this.deployed("ProviderStaking", _stakingWith(address(0), UNIT));
        vm.expectRevert(IProviderStaking.ZeroAmount.selector);
        this.deployed("ProviderStaking", _stakingWith(address(bond), 0));
    }

    function test_a_staking_is_the_one_that_its_escrow_names() external {
        vm.expectRevert(abi.encodeWithSelector(IProviderStaking.WrongNeighbour.selector, _next(0), address(staking)));
        this.deployed("ProviderStaking", _stakingWith(address(bond), UNIT));
    }

    // ------------------------------------------------------------------ the market

    function test_a_market_is_the_one_that_its_escrow_names() external {
        bytes memory arguments = _marketWith(address(court), MIN_CHALLENGE_S, MAX_CHALLENGE_S, COURT_S);
        vm.expectRevert(abi.encodeWithSelector(ITaskMarket.WrongNeighbour.selector, _next(0), address(market)));
        this.deployed("TaskMarket", arguments);
    }

    function test_the_shortest_challenge_is_no_longer_than_the_longest() external {
        _buildBeforeMarket();
        bytes memory arguments = _marketWith(address(0), MIN_CHALLENGE_S + 1, MIN_CHALLENGE_S, COURT_S);
        vm.expectRevert(
            abi.encodeWithSelector(ITaskMarket.WindowsOutOfOrder.selector, MIN_CHALLENGE_S + 1, MIN_CHALLENGE_S)
        );
        this.deployed("TaskMarket", arguments);
        this.deployed("TaskMarket", _marketWith(address(0), MIN_CHALLENGE_S, MIN_CHALLENGE_S, COURT_S));
    }

    /// @dev Stake that backed a proof is there when the last word on it is spoken, and a second longer.
    function test_stake_stays_longer_than_any_dispute() external {
        _buildBeforeMarket();
        uint32 tooLong = UNBONDING_S - MAX_CHALLENGE_S;
        bytes memory arguments = _marketWith(address(0), MIN_CHALLENGE_S, MAX_CHALLENGE_S, tooLong);
        vm.expectRevert(abi.encodeWithSelector(ITaskMarket.UnbondingTooShort.selector, UNBONDING_S + 1, UNBONDING_S));
        this.deployed("TaskMarket", arguments);
        this.deployed("TaskMarket", _marketWith(address(0), MIN_CHALLENGE_S, MAX_CHALLENGE_S, tooLong - 1));
    }

    function test_without_a_court_nothing_is_verified() external {
        _buildBeforeMarket();
        market = ITaskMarket(
            this.deployed("TaskMarket", _marketWith(address(0), MIN_CHALLENGE_S, MAX_CHALLENGE_S, COURT_S))
        );
        vm.prank(people[0]);
        payment.approve(address(escrow), 100);
        vm.prank(people[0]);
        escrow.deposit(people[0], 100);
        ITaskMarket.TaskTerms memory terms;
        terms.consumer = people[0];
        terms.maxCharge = 100;
        terms.deadline = uint64(block.timestamp);
        terms.challengeWindow = MIN_CHALLENGE_S;
        terms.verification = 1;
        vm.expectRevert(abi.encodeWithSelector(ITaskMarket.VerificationNeedsCourt.selector, 1));
        vm.prank(people[0]);
        market.createTask(terms, "");
        terms.verification = 0;
        vm.prank(people[0]);
        market.createTask(terms, "");
    }

    // ------------------------------------------------------------------ the court

    function test_a_court_is_the_one_that_its_neighbours_name() external {
        _expectWrongCourt(_next(0), address(court));
        this.deployed("DisputeCourt", _courtWith(address(staking), address(escrow), DAY_S, DAY_S));

        // Has the domain that the constructor asks for, and is not the market's.
        address other = this.deployed("ComputeEscrow", _escrowWith(PROTOCOL_FEE_BPS, POOL_SHARE_BPS, CLOSE_S));
        _buildBeforeMarket();
        market =
            ITaskMarket(this.deployed("TaskMarket", _marketWith(_next(1), MIN_CHALLENGE_S, MAX_CHALLENGE_S, COURT_S)));
        _expectWrongCourt(address(bond), address(staking));
        this.deployed("DisputeCourt", _courtWith(address(bond), address(escrow), DAY_S, DAY_S));
        _expectWrongCourt(other, address(escrow));
        this.deployed("DisputeCourt", _courtWith(address(staking), other, DAY_S, DAY_S));
        this.deployed("DisputeCourt", _courtWith(address(staking), address(escrow), DAY_S, DAY_S));
    }

    /// @dev Each of the two alone: a market that names another court, and a staking that does.
    function test_market_and_staking_both_name_the_court() external {
        uint256 before = vm.snapshotState();
        _buildBeforeMarket();
        market =
            ITaskMarket(this.deployed("TaskMarket", _marketWith(stranger, MIN_CHALLENGE_S, MAX_CHALLENGE_S, COURT_S)));
        bytes memory arguments = _courtWith(address(staking), address(escrow), DAY_S, DAY_S);
        _expectWrongCourt(_next(0), stranger);
        this.deployed("DisputeCourt", arguments);
        vm.revertToState(before);

        _buildBeforeMarket();
        market =
            ITaskMarket(this.deployed("TaskMarket", _marketWith(_next(2), MIN_CHALLENGE_S, MAX_CHALLENGE_S, COURT_S)));
        arguments = _courtWith(address(staking), address(escrow), DAY_S, DAY_S);
        // Where the staking expects its court, something else is deployed.
        this.deployed("AppRegistry", abi.encode(DAY_S));
        address named = staking.court();
        _expectWrongCourt(_next(0), named);
        this.deployed("DisputeCourt", arguments);
    }

    /// @dev Two rounds, and a second over: exactly as long as the court has.
    function test_a_court_has_time_for_two_rounds() external {
        _buildBeforeMarket();
        market =
            ITaskMarket(this.deployed("TaskMarket", _marketWith(_next(1), MIN_CHALLENGE_S, MAX_CHALLENGE_S, COURT_S)));
        uint32 commitS = DAY_S - 1;
        uint32 revealS = (COURT_S - 3 * commitS) / 2;
        vm.expectRevert(abi.encodeWithSelector(IDisputeCourt.CourtTooShort.selector, COURT_S + 2, COURT_S));
        this.deployed("DisputeCourt", _courtWith(address(staking), address(escrow), commitS, revealS + 1));
        this.deployed("DisputeCourt", _courtWith(address(staking), address(escrow), commitS, revealS));
    }

    // ------------------------------------------------------------------ deploying

    function deployed(string memory name, bytes memory arguments) external returns (address) {
        return deploy(name, arguments);
    }

    /// @dev A contract that is deployed after `later` others.
    function _next(uint256 later) private view returns (address) {
        return vm.computeCreateAddress(address(this), vm.getNonce(address(this)) + later);
    }

    /// @dev The next contract is the market that they name, the one after it their court.
    function _buildBeforeMarket() private {
        address stakingAhead = _next(1);
        address marketAhead = _next(2);
        address courtAhead = _next(3);
        escrow = IComputeEscrow(
            deploy(
                "ComputeEscrow",
                abi.encode(payment, marketAhead, stakingAhead, treasury, PROTOCOL_FEE_BPS, POOL_SHARE_BPS, CLOSE_S)
            )
        );
        IProviderStaking.Clocks memory clocks =
            IProviderStaking.Clocks(UNBONDING_S, RETIRED_KEY_S, COMMISSION_NOTICE_S, JAIL_S, STREAM_S);
        staking = IProviderStaking(deploy("ProviderStaking", abi.encode(bond, escrow, courtAhead, UNIT, clocks)));
    }

    function _escrowWith(uint256 feeBps, uint256 poolShareBps, uint256 closeS) private view returns (bytes memory) {
        return abi.encode(payment, market, staking, treasury, feeBps, poolShareBps, closeS);
    }

    function _stakingWith(address token, uint128 unit) private view returns (bytes memory) {
        IProviderStaking.Clocks memory clocks =
            IProviderStaking.Clocks(UNBONDING_S, RETIRED_KEY_S, COMMISSION_NOTICE_S, JAIL_S, STREAM_S);
        return abi.encode(token, escrow, court, unit, clocks);
    }

    function _marketWith(address court_, uint32 shortest, uint32 longest, uint32 courtS)
        private
        view
        returns (bytes memory)
    {
        return abi.encode(escrow, staking, court_, Windows(CANCEL_S, shortest, longest, courtS), BOND_FLOOR);
    }

    function _courtWith(address staking_, address escrow_, uint32 commitS, uint32 revealS)
        private
        view
        returns (bytes memory)
    {
        return abi.encode(market, staking_, escrow_, CourtWindows(commitS, revealS, DAY_S));
    }

    function _expectCloseOutOfRange(uint256 actual) private {
        vm.expectRevert(
            abi.encodeWithSelector(
                IComputeEscrow.ClosePeriodOutOfRange.selector, SHORTEST_CLOSE_S, LONGEST_CLOSE_S, actual
            )
        );
    }

    function _expectWrongCourt(address expected, address actual) private {
        vm.expectRevert(abi.encodeWithSelector(IDisputeCourt.WrongNeighbour.selector, expected, actual));
    }
}
