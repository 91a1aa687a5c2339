// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {ComputeEscrow} from "../../../contracts/ComputeEscrow.sol";
import {ProviderStaking} from "../../../contracts/ProviderStaking.sol";
import {IComputeEscrow} from "../../../contracts/interfaces/IComputeEscrow.sol";
import {IProviderStaking} from "../../../contracts/interfaces/IProviderStaking.sol";
import {vm} from "../base/Vm.sol";
import {claimedAfter} from "./Money.sym.sol";

/// @notice Moves what it is told to move, and everybody has enough.
contract Coin {
    mapping(address account => uint256) public balanceOf;

    function transferFrom(address, address to, uint256 amount) external returns (bool) {
        unchecked {
            balanceOf[to] += amount;
        }
        return true;
    }
}

/// @notice As much of an escrow as a staking asks for when it is deployed.
contract Neighbour {
    address public immutable token;
    address public immutable treasury = address(0x7EA5);

    constructor(address token_) {
        token = token_;
    }

    function staking() external view returns (address) {
        return msg.sender;
    }
}

/// @notice What Halmos proves of the contracts themselves, deployed, for every value and every signature. Recovering a
/// signer and hashing are any functions to it, so a signature is one of whomever it would help. What delegators lose of a
/// slash is a product divided, 128 bits wide, and out of its reach: `fuzz/Shares.t.sol` has that.
contract ContractsSymbolic {
    address private constant PAYER = address(0xA11CE);
    address private constant SIGNER = address(0x51631);
    address private constant PROVIDER = address(0xB0B);
    uint96 private constant SALT = 7;

    ComputeEscrow private _escrow;
    ProviderStaking private _staking;

    function setUp() public {
        address coin = address(new Coin());
        _escrow = new ComputeEscrow(coin, address(this), address(this), address(0x7EA5), 100, 5000, 3 days);
        IProviderStaking.Clocks memory clocks = IProviderStaking.Clocks(21 days, 7 days, 7 days, 7 days, 7 days);
        _staking = new ProviderStaking(coin, address(new Neighbour(coin)), address(this), 1000, clocks);
    }

    // ------------------------------------------------------------------ the voucher (cases 34 and 43, law L4)

    /// @dev Two rows after each other, of any total, signed by whomever: what is claimed becomes what `claimedAfter` says,
    /// or stays as it was, and the provider is credited by as much as it rose.
    function check_a_row_pays_what_it_adds(
        uint128 deposited,
        uint256 one,
        uint256 other,
        bytes32 r,
        bytes32 vs,
        bytes32 otherR,
        bytes32 otherVs
    ) external {
        if (deposited == 0) return;
        IComputeEscrow.Channel memory channel = IComputeEscrow.Channel(PAYER, SIGNER, PROVIDER, SALT);
        _escrow.depositToChannel(channel, deposited);
        uint256 first = _redeem(channel, one, r, vs);
        assert(first == 0 || first == claimedAfter(deposited, 0, one));
        uint256 second = _redeem(channel, other, otherR, otherVs);
        assert(second == first || second == claimedAfter(deposited, first, other));
        (uint128 credit,) = _escrow.payeeOf(PROVIDER);
        assert(credit == second);
        (uint128 still,,) = _escrow.channelOf(_escrow.channelIdOf(channel));
        assert(still == deposited);
    }

    /// @dev Word by word: a total wider than its type gets through no encoder.
    function _redeem(IComputeEscrow.Channel memory channel, uint256 total, bytes32 r, bytes32 vs)
        private
        returns (uint256)
    {
        uint256 payerAndSalt = (uint256(uint160(PAYER)) << 96) | SALT;
        bytes memory data = bytes.concat(
            IComputeEscrow.redeem.selector,
            abi.encode(PROVIDER, uint256(64), uint256(1), payerAndSalt, total, bytes32("receipt"), r, vs)
        );
        // solhint-disable-next-line avoid-low-level-calls
        (bool done,) = address(_escrow).call(data);
        assert(done);
        (, uint128 claimed,) = _escrow.channelOf(_escrow.channelIdOf(channel));
        return claimed;
    }

    // ------------------------------------------------------------------ the market's orders (law L2)

    function check_what_is_locked_comes_back_whole(uint128 deposited, uint128 amount) external {
        if (deposited == 0 || amount == 0 || amount > deposited) return;
        _escrow.deposit(address(this), deposited);
        _escrow.lockAvailable(address(this), amount);
        (uint128 available, uint128 locked) = _escrow.accountOf(address(this));
        assert(available == deposited - amount && locked == amount);
        _escrow.unlock(address(this), amount);
        (available, locked) = _escrow.accountOf(address(this));
        assert(available == deposited && locked == 0);
    }

    /// @dev What a settlement takes from an account is what it credits, and nobody else's half moves.
    function check_a_settlement_credits_what_it_takes(
        uint128 deposited,
        uint128 locked,
        uint128 charge,
        uint128 dispatcherShare,
        uint128 royaltyShare
    ) external {
        if (deposited == 0 || locked > deposited || charge > locked) return;
        if (uint256(dispatcherShare) + royaltyShare > charge) return;
        _escrow.deposit(PAYER, deposited);
        _escrow.lockAvailable(PAYER, locked);
        _escrow.payProviderFrom(
            PAYER, locked, charge, PROVIDER, address(0xD), dispatcherShare, address(0xE), royaltyShare
        );
        (uint128 available, uint128 stillLocked) = _escrow.accountOf(PAYER);
        assert(available == deposited - charge && stillLocked == 0);
        (uint128 provider,) = _escrow.payeeOf(PROVIDER);
        (uint128 dispatcher,) = _escrow.payeeOf(address(0xD));
        (uint128 royalty,) = _escrow.payeeOf(address(0xE));
        assert(dispatcher == dispatcherShare && royalty == royaltyShare);
        assert(uint256(provider) + dispatcher + royalty == charge);
    }

    // ------------------------------------------------------------------ a slash, own stake first (cases 55, 57, 71)

    function check_a_slash_takes_own_stake_in_order(uint128 bonded, uint128 unbonding, uint128 asked) external {
        if (unbonding == 0 || uint256(bonded) + unbonding > type(uint128).max) return;
        vm.prank(PROVIDER);
        _staking.stake(bonded + unbonding);
        vm.prank(PROVIDER);
        _staking.requestUnbond(unbonding);
        uint256 slashed = _staking.slash(PROVIDER, asked, bytes32("offence"), new address[](0));
        uint256 there = uint256(bonded) + unbonding;
        assert(slashed == (asked < there ? asked : there));
        uint256 first = asked < bonded ? asked : bonded;
        (uint128 left, uint128 leaving) = _staking.stakeOf(PROVIDER);
        assert(left == bonded - first);
        // A pot of which less than one part in 2^32 is left is void: the rest is the treasury's.
        assert(leaving == unbonding - (slashed - first) || leaving == 0);
        assert(_staking.unburned() == slashed);
        assert(_staking.isJailed(PROVIDER));
    }
}
