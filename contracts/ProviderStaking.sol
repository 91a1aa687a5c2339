// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {IComputeEscrow} from "./interfaces/IComputeEscrow.sol";
import {IProviderStaking} from "./interfaces/IProviderStaking.sol";
import {CallPricing} from "./libraries/CallPricing.sol";
import {ExactTransfer} from "./libraries/ExactTransfer.sol";
import {FeeStream} from "./libraries/FeeStream.sol";
import {MessageHash} from "./libraries/MessageHash.sol";
import {SharePot} from "./libraries/SharePot.sol";
import {Signatures} from "./libraries/Signatures.sol";
import {TallystickDomain} from "./libraries/TallystickDomain.sol";

/// @title Staking: who may serve, and what they stand to lose
/// @dev Invariants: balance of the staking token >= all bonded + unbonding + delegated + undelegating + bounties + unburned;
/// balance of the payment token >= all that has not flowed + earned and not claimed + fees to withdraw; where both are one
/// token, >= the sum. Equal but for tokens sent here without a verb, and fees below one unit that a position carries.
/// @custom:security Everything is counted; no balance decides what belongs to whom.
contract ProviderStaking is IProviderStaking, TallystickDomain, ReentrancyGuardTransient {
    using SafeERC20 for IERC20;
    using ExactTransfer for IERC20;
    using FeeStream for FeeStream.Stream;
    using SharePot for SharePot.Pot;

    /// @dev One slot: what staking, registering GPUs, proving and jail read and write.
    struct Stake {
        uint128 bonded;
        uint32 gpus;
        uint32 requests;
        uint16 seats;
        uint48 jailedUntil;
    }

    /// @dev Two slots each. What of a provider's stake is held in shares.
    struct Pots {
        SharePot.Pot unbonding;
        SharePot.Pot delegated;
        SharePot.Pot undelegating;
    }

    /// @dev One slot. Shares of a pot of what is on its way out.
    struct Request {
        uint160 shares;
        uint32 generation;
        uint64 withdrawableAt;
    }

    /// @dev Three slots. Shares of the provider's `delegated` pot; `perShare` and `carry` as in `FeeStream`.
    struct Delegation {
        uint160 shares;
        uint96 carry;
        uint128 earned;
        uint32 generation;
        uint256 perShare;
    }

    struct Commission {
        uint16 bps;
        uint16 nextBps;
        uint64 effectiveAt;
    }

    struct OperatorKey {
        address provider;
        uint64 retiredAt;
    }

    uint16 private constant BPS = 10_000;
    uint256 private constant BOUNTY_LIMIT_BPS = 2_000;
    address private constant BURN_ADDRESS = address(0xdEaD);

    IERC20 private immutable _token;
    IERC20 private immutable _paymentToken;

    /// @inheritdoc IProviderStaking
    address public immutable escrow;

    /// @inheritdoc IProviderStaking
    address public immutable court;

    /// @inheritdoc IProviderStaking
    address public immutable treasury;

    /// @inheritdoc IProviderStaking
    uint128 public immutable unit;

    /// @inheritdoc IProviderStaking
    uint128 public immutable minDelegation;

    /// @inheritdoc IProviderStaking
    uint32 public immutable unbondingSeconds;

    /// @inheritdoc IProviderStaking
    uint32 public immutable retiredKeySeconds;

    /// @inheritdoc IProviderStaking
    uint32 public immutable commissionNoticeSeconds;

    /// @inheritdoc IProviderStaking
    uint32 public immutable jailSeconds;

    /// @inheritdoc IProviderStaking
    uint32 public immutable streamSeconds;

    mapping(address provider => Stake) private _stakes;
    mapping(address provider => Pots) private _pots;
    mapping(address provider => mapping(uint256 requestId => Request)) private _unbondRequests;
    mapping(address key => OperatorKey) private _operatorKeys;

    mapping(address provider => mapping(address delegator => Delegation)) private _delegations;
    mapping(address delegator => mapping(uint256 requestId => Request)) private _undelegateRequests;
    mapping(address delegator => mapping(uint256 requestId => address provider)) private _undelegatedFrom;
    mapping(address delegator => uint256) private _undelegateCounts;

    mapping(address provider => Commission) private _commissions;
    mapping(address provider => FeeStream.Stream) private _streams;
    /// @dev What a share had earned when its generation ended.
    mapping(address provider => mapping(uint32 generation => uint256)) private _lastPerShare;

    /// @dev In the payment token: commission, and what drained pools left to the treasury.
    mapping(address account => uint128) private _fees;
    /// @dev In the staking token: bounties, and what void pots left to the treasury.
    mapping(address account => uint128) private _bounties;
    mapping(bytes32 offenceId => bool) private _punished;

    /// @inheritdoc IProviderStaking
    uint128 public unburned;

    /// @param escrow_ Deployed before; it names this contract, and tells the payment token, the treasury and the signing domain
    /// that a deployment shares.
    /// @param court_ Computed before its deployment; zero for a deployment without court.
    constructor(address token_, address escrow_, address court_, uint128 unit_, Clocks memory clocks)
        TallystickDomain(escrow_)
    {
        if (token_ == address(0) || escrow_ == address(0)) revert ZeroAddress();
        if (unit_ == 0) revert ZeroAmount();
        address named = IComputeEscrow(escrow_).staking();
        if (named != address(this)) revert WrongNeighbour(address(this), named);
        _token = IERC20(token_);
        _paymentToken = IERC20(IComputeEscrow(escrow_).token());
        escrow = escrow_;
        court = court_;
        treasury = IComputeEscrow(escrow_).treasury();
        unit = unit_;
        minDelegation = unit_ < 100 ? 1 : unit_ / 100;
        unbondingSeconds = clocks.unbondingSeconds;
        retiredKeySeconds = clocks.retiredKeySeconds;
        commissionNoticeSeconds = clocks.commissionNoticeSeconds;
        jailSeconds = clocks.jailSeconds;
        streamSeconds = clocks.streamSeconds;
    }

    modifier onlyCourt() {
        if (msg.sender != court) revert OnlyCourt(court, msg.sender);
        _;
    }

    // ------------------------------------------------------------------ a provider stands behind its work

    /// @inheritdoc IProviderStaking
    function stake(uint128 amount) external nonReentrant {
        _stake(amount);
    }

    /// @inheritdoc IProviderStaking
    function stakeWithPermit(uint128 amount, uint256 deadline, uint8 v, bytes32 r, bytes32 s) external nonReentrant {
        _token.tryPermit(msg.sender, amount, deadline, v, r, s);
        _stake(amount);
    }

    /// @inheritdoc IProviderStaking
    function requestUnbond(uint128 amount) external returns (uint256 requestId) {
        if (amount == 0) revert ZeroAmount();
        Stake storage own = _stakes[msg.sender];
        uint128 bonded = own.bonded;
        if (bonded < amount) revert InsufficientBonded(amount, bonded);
        // Just compared.
        unchecked {
            bonded -= amount;
        }
        uint256 required = _required(own.gpus, own.seats);
        if (bonded < required) revert StakeBacksGpus(required, bonded);

        // Checked: 2^32 requests revert.
        requestId = own.requests++;
        own.bonded = bonded;
        uint64 withdrawableAt = _open(_unbondRequests[msg.sender], requestId, _pots[msg.sender].unbonding, amount);
        emit UnbondRequested(msg.sender, requestId, amount, withdrawableAt, bonded);
    }

    /// @inheritdoc IProviderStaking
    function withdrawStake(uint256 requestId, address to) external nonReentrant returns (uint128 amount) {
        _checkRecipient(to);
        amount = _close(_unbondRequests[msg.sender], requestId, _pots[msg.sender].unbonding);
        emit StakeWithdrawn(msg.sender, requestId, to, amount);
        _pay(_token, to, amount);
    }

    // ------------------------------------------------------------------ a provider offers GPUs

    /// @inheritdoc IProviderStaking
    function registerGpus(bytes32 gpuSet, uint32 gpus) external {
        OperatorKey memory key = _operatorKeys[msg.sender];
        if (key.retiredAt != 0) revert KeyAlreadyRetired(msg.sender, key.retiredAt);
        address provider = key.provider == address(0) ? msg.sender : key.provider;
        if (gpus != 0 && gpuSet == 0) revert GpuSetMissing(gpus);

        Stake storage own = _stakes[provider];
        if (gpus != 0) _requireBacked(gpus, own.seats, own.bonded);
        own.gpus = gpus;
        emit GpusRegistered(provider, gpus, gpuSet);
    }

    // ------------------------------------------------------------------ a provider lends its pen

    /// @inheritdoc IProviderStaking
    function bindOperatorKey(address key, bytes calldata signature) external {
        // A provider that became a key could not register its own GPUs any more, nor take them back to unbond.
        if (key == msg.sender || _stakes[key].bonded != 0) revert KeyIsProvider(key);
        address present = _operatorKeys[key].provider;
        if (present != address(0)) revert KeyAlreadyBound(key, present);
        address signer = Signatures.recover(digestOfOperatorKey(msg.sender, key), signature);
        if (signer == address(0) || signer != key) revert InvalidKeySignature(key, signer);
        _operatorKeys[key].provider = msg.sender;
        emit OperatorKeyBound(msg.sender, key);
    }

    /// @inheritdoc IProviderStaking
    function retireOperatorKey(address key) external {
        OperatorKey storage bound = _operatorKeys[key];
        if (bound.provider == address(0)) revert KeyNotBound(key);
        if (bound.provider != msg.sender) revert OnlyProvider(bound.provider, msg.sender);
        if (bound.retiredAt != 0) revert KeyAlreadyRetired(key, bound.retiredAt);
        // Safe cast: a block's time.
        uint64 retiredAt = uint64(block.timestamp);
        bound.retiredAt = retiredAt;
        emit OperatorKeyRetired(msg.sender, key, retiredAt + retiredKeySeconds);
    }

    // ------------------------------------------------------------------ others stand behind a provider

    /// @inheritdoc IProviderStaking
    function delegate(address provider, uint128 amount, uint160 minShares)
        external
        nonReentrant
        returns (uint160 shares)
    {
        return _delegate(provider, amount, minShares);
    }

    /// @inheritdoc IProviderStaking
    function delegateWithPermit(
        address provider,
        uint128 amount,
        uint160 minShares,
        uint256 deadline,
        uint8 v,
        bytes32 r,
        bytes32 s
    ) external nonReentrant returns (uint160 shares) {
        _token.tryPermit(msg.sender, amount, deadline, v, r, s);
        return _delegate(provider, amount, minShares);
    }

    /// @inheritdoc IProviderStaking
    function requestUndelegate(address provider, uint160 shares, uint128 minAmount)
        external
        returns (uint256 requestId, uint128 amount)
    {
        if (shares == 0) revert ZeroAmount();
        (FeeStream.Stream memory stream, Delegation memory position) = _settled(provider, msg.sender);
        if (position.shares < shares) revert InsufficientShares(shares, position.shares);
        // Just compared.
        unchecked {
            position.shares -= shares;
        }
        SharePot.Pot storage pool = _pots[provider].delegated;
        amount = pool.remove(shares);
        if (amount == 0) revert ZeroAmount();
        if (amount < minAmount) revert AmountBelowMinimum(minAmount, amount);

        if (position.shares != 0) {
            uint128 left = pool.valueDown(position.shares, position.generation);
            if (left < minDelegation) revert DelegationTooSmall(minDelegation, left);
        } else {
            stream.carry += position.carry;
            position.carry = 0;
            if (pool.shares == 0) _drain(provider, stream);
        }
        _store(provider, stream, position);

        requestId = _undelegateCounts[msg.sender]++;
        _undelegatedFrom[msg.sender][requestId] = provider;
        uint64 withdrawableAt = _open(_undelegateRequests[msg.sender], requestId, _pots[provider].undelegating, amount);
        emit UndelegateRequested(provider, msg.sender, requestId, shares, amount, withdrawableAt, pool.tokens);
    }

    /// @inheritdoc IProviderStaking
    function withdrawDelegation(uint256 requestId, address to) external nonReentrant returns (uint128 amount) {
        _checkRecipient(to);
        address provider = _undelegatedFrom[msg.sender][requestId];
        amount = _close(_undelegateRequests[msg.sender], requestId, _pots[provider].undelegating);
        delete _undelegatedFrom[msg.sender][requestId];
        emit DelegationWithdrawn(provider, msg.sender, requestId, to, amount);
        _pay(_token, to, amount);
    }

    /// @inheritdoc IProviderStaking
    function claimRewards(address provider, address to) external nonReentrant returns (uint128 amount) {
        _checkRecipient(to);
        (FeeStream.Stream memory stream, Delegation memory position) = _settled(provider, msg.sender);
        amount = position.earned;
        if (amount == 0) revert NothingToWithdraw(msg.sender);
        position.earned = 0;
        _store(provider, stream, position);
        emit RewardsClaimed(provider, msg.sender, to, amount);
        _pay(_paymentToken, to, amount);
    }

    // ------------------------------------------------------------------ fees come in

    /// @inheritdoc IProviderStaking
    function setCommission(uint16 bps) external {
        if (bps > BPS) revert CommissionTooHigh(BPS, bps);
        // Safe cast: a block's time plus 32 bits of seconds.
        uint64 effectiveAt = uint64(block.timestamp + commissionNoticeSeconds);
        _commissions[msg.sender] = Commission(_commissionNow(msg.sender), bps, effectiveAt);
        emit CommissionSet(msg.sender, bps, effectiveAt);
    }

    /// @inheritdoc IProviderStaking
    function addFees(address provider, uint128 amount) external {
        if (msg.sender != escrow) revert OnlyEscrow(escrow, msg.sender);
        if (_pots[provider].delegated.shares == 0) revert NoPool(provider);
        // Safe cast: a part of the amount.
        uint128 commission = uint128(CallPricing.shareDown(amount, _commissionNow(provider)));
        if (commission != 0) _fees[provider] += commission;
        FeeStream.Stream memory stream = _advanced(provider);
        stream.add(amount - commission, streamSeconds);
        _keep(provider, stream);
        emit FeesAdded(provider, amount, commission, stream.remaining, stream.endsAt());
    }

    /// @inheritdoc IProviderStaking
    function withdrawFees(address account) external nonReentrant returns (uint128 amount) {
        amount = _takeAll(_fees, account);
        emit FeesWithdrawn(account, amount);
        _pay(_paymentToken, account, amount);
    }

    // ------------------------------------------------------------------ the court's orders

    /// @inheritdoc IProviderStaking
    function slash(address provider, uint128 amount, bytes32 offenceId, address[] calldata beneficiaries)
        external
        onlyCourt
        returns (uint128 slashed)
    {
        if (_punished[offenceId]) revert AlreadyPunished(offenceId);
        _punished[offenceId] = true;
        slashed = _slashOwn(provider, amount);
        if (slashed < amount) slashed += _slashDelegators(provider, amount - slashed);

        uint128 bounty = _reward(slashed, offenceId, beneficiaries);
        if (slashed != bounty) unburned += slashed - bounty;
        // Safe cast: a block's time plus 32 bits of seconds.
        uint48 until = uint48(block.timestamp + jailSeconds);
        _stakes[provider].jailedUntil = until;
        _emitSlashed(provider, offenceId, slashed, bounty);
        emit Jailed(provider, until);
    }

    /// @inheritdoc IProviderStaking
    function setSeats(address provider, uint16 seats) external onlyCourt {
        Stake storage own = _stakes[provider];
        if (seats > own.seats) {
            if (own.jailedUntil != 0) revert ProviderJailed(provider, own.jailedUntil);
            _requireBacked(own.gpus, seats, own.bonded);
        }
        own.seats = seats;
        emit SeatsSet(provider, seats);
    }

    /// @inheritdoc IProviderStaking
    function unjail() external {
        Stake storage own = _stakes[msg.sender];
        uint64 until = own.jailedUntil;
        if (until == 0) revert NotJailed(msg.sender);
        if (block.timestamp < until) revert JailNotOver(until, block.timestamp);
        if (own.bonded < unit) revert StakeTooLow(unit, own.bonded);
        own.jailedUntil = 0;
        emit Unjailed(msg.sender);
    }

    /// @inheritdoc IProviderStaking
    function withdrawBounty(address account) external nonReentrant returns (uint128 amount) {
        amount = _takeAll(_bounties, account);
        emit BountyWithdrawn(account, amount);
        _pay(_token, account, amount);
    }

    /// @inheritdoc IProviderStaking
    function burnSlashed() external nonReentrant returns (uint128 amount) {
        amount = unburned;
        if (amount == 0) revert NothingToWithdraw(BURN_ADDRESS);
        unburned = 0;
        emit SlashedBurned(amount);
        _pay(_token, BURN_ADDRESS, amount);
    }

    // ------------------------------------------------------------------ reading

    /// @inheritdoc IProviderStaking
    function stakeOf(address provider) external view returns (uint128 bonded, uint128 unbonding) {
        return (_stakes[provider].bonded, _pots[provider].unbonding.tokens);
    }

    /// @inheritdoc IProviderStaking
    function gpusOf(address provider) external view returns (uint32) {
        return _stakes[provider].gpus;
    }

    /// @inheritdoc IProviderStaking
    function unitsOf(address provider) external view returns (uint256) {
        Stake storage own = _stakes[provider];
        uint256 units = own.bonded / unit;
        uint256 seats = own.seats;
        return units > seats ? units - seats : 0;
    }

    /// @inheritdoc IProviderStaking
    function seatsOf(address provider) external view returns (uint16 seats, uint16 covered) {
        Stake storage own = _stakes[provider];
        seats = own.seats;
        uint256 units = own.bonded / unit;
        // Safe cast: less than the seats.
        covered = units < seats ? uint16(units) : seats;
    }

    /// @inheritdoc IProviderStaking
    function isJailed(address provider) external view returns (bool) {
        return _stakes[provider].jailedUntil != 0;
    }

    /// @inheritdoc IProviderStaking
    function jailedUntil(address provider) external view returns (uint64) {
        return _stakes[provider].jailedUntil;
    }

    /// @inheritdoc IProviderStaking
    function isPunished(bytes32 offenceId) external view returns (bool) {
        return _punished[offenceId];
    }

    /// @inheritdoc IProviderStaking
    function unbondRequest(address provider, uint256 requestId)
        external
        view
        returns (uint128 amount, uint64 withdrawableAt)
    {
        return _worth(_unbondRequests[provider][requestId], _pots[provider].unbonding);
    }

    /// @inheritdoc IProviderStaking
    function unbondRequestsOf(address provider) external view returns (uint256) {
        return _stakes[provider].requests;
    }

    /// @inheritdoc IProviderStaking
    function hasPool(address provider) external view returns (bool) {
        return _pots[provider].delegated.shares != 0;
    }

    /// @inheritdoc IProviderStaking
    function poolOf(address provider)
        external
        view
        returns (uint128 delegated, uint160 shares, uint32 generation, uint128 undelegating)
    {
        SharePot.Pot storage pool = _pots[provider].delegated;
        // Safe cast: shares fit 160 bits, as `SharePot` says.
        return (pool.tokens, uint160(pool.shares), pool.generation, _pots[provider].undelegating.tokens);
    }

    /// @inheritdoc IProviderStaking
    function delegationOf(address provider, address delegator) external view returns (uint160 shares, uint128 amount) {
        Delegation storage position = _delegations[provider][delegator];
        SharePot.Pot storage pool = _pots[provider].delegated;
        if (position.generation == pool.generation) shares = position.shares;
        amount = pool.valueDown(shares, position.generation);
    }

    /// @inheritdoc IProviderStaking
    function undelegateRequest(address delegator, uint256 requestId)
        external
        view
        returns (address provider, uint128 amount, uint64 withdrawableAt)
    {
        provider = _undelegatedFrom[delegator][requestId];
        (amount, withdrawableAt) = _worth(_undelegateRequests[delegator][requestId], _pots[provider].undelegating);
    }

    /// @inheritdoc IProviderStaking
    function undelegateRequestsOf(address delegator) external view returns (uint256) {
        return _undelegateCounts[delegator];
    }

    /// @inheritdoc IProviderStaking
    function rewardsOf(address provider, address delegator) external view returns (uint128) {
        (, Delegation memory position) = _settled(provider, delegator);
        return position.earned;
    }

    /// @inheritdoc IProviderStaking
    function streamOf(address provider) external view returns (uint128 remaining, uint64 endsAt) {
        FeeStream.Stream memory stream = _advanced(provider);
        return (stream.remaining, stream.endsAt());
    }

    /// @inheritdoc IProviderStaking
    function commissionOf(address provider) external view returns (uint16 bps, uint16 nextBps, uint64 effectiveAt) {
        Commission storage commission = _commissions[provider];
        return (_commissionNow(provider), commission.nextBps, commission.effectiveAt);
    }

    /// @inheritdoc IProviderStaking
    function feesOf(address account) external view returns (uint128) {
        return _fees[account];
    }

    /// @inheritdoc IProviderStaking
    function bountyOf(address account) external view returns (uint128) {
        return _bounties[account];
    }

    /// @inheritdoc IProviderStaking
    function operatorKey(address key) external view returns (address provider, uint64 retiredAt) {
        OperatorKey storage bound = _operatorKeys[key];
        return (bound.provider, bound.retiredAt);
    }

    /// @inheritdoc IProviderStaking
    function signsFor(address signer, address provider) external view returns (bool) {
        // A key that was never bound names the zero address as its provider.
        if (signer == address(0) || provider == address(0)) return false;
        if (signer == provider) return true;
        OperatorKey storage bound = _operatorKeys[signer];
        return bound.provider == provider && bound.retiredAt == 0;
    }

    /// @inheritdoc IProviderStaking
    function answersFor(address provider, address signer) external view returns (bool) {
        if (signer == address(0) || provider == address(0)) return false;
        if (signer == provider) return true;
        OperatorKey storage bound = _operatorKeys[signer];
        if (bound.provider != provider) return false;
        return bound.retiredAt == 0 || block.timestamp <= bound.retiredAt + retiredKeySeconds;
    }

    /// @inheritdoc IProviderStaking
    function digestOfOperatorKey(address provider, address key) public view returns (bytes32) {
        return _digest(MessageHash.hashOperatorKey(provider, key));
    }

    /// @inheritdoc IProviderStaking
    function token() external view returns (address) {
        return address(_token);
    }

    /// @inheritdoc IProviderStaking
    function paymentToken() external view returns (address) {
        return address(_paymentToken);
    }

    // ------------------------------------------------------------------ private: stake

    function _stake(uint128 amount) private {
        _pull(amount);
        // Checked: a token with more than 2^128 units cannot wrap a stake.
        uint128 bonded = _stakes[msg.sender].bonded + amount;
        _stakes[msg.sender].bonded = bonded;
        emit Staked(msg.sender, amount, bonded);
    }

    function _pull(uint128 amount) private {
        if (amount == 0) revert ZeroAmount();
        uint256 received = _token.pull(msg.sender, amount);
        if (received != amount) revert DepositNotExact(amount, received);
    }

    /// @dev 144 + 17 bits at most.
    function _required(uint32 gpus, uint16 seats) private view returns (uint256) {
        return (uint256(gpus) + seats) * unit;
    }

    function _requireBacked(uint32 gpus, uint16 seats, uint128 bonded) private view {
        uint256 required = _required(gpus, seats);
        if (bonded < required) revert StakeTooLow(required, bonded);
    }

    // ------------------------------------------------------------------ private: pots

    /// @dev An amount that its pot would not tell from nothing stays where it is.
    function _add(SharePot.Pot storage pot, uint128 amount) private returns (uint160) {
        uint256 held = pot.add(amount);
        if (held == 0) revert ZeroAmount();
        if (held > type(uint160).max) revert PotSpent();
        // Just compared.
        return uint160(held);
    }

    /// @dev A request of `amount` on a clock of its own.
    function _open(
        mapping(uint256 requestId => Request) storage requests,
        uint256 requestId,
        SharePot.Pot storage pot,
        uint128 amount
    ) private returns (uint64 withdrawableAt) {
        // Safe cast: a block's time plus 32 bits of seconds.
        withdrawableAt = uint64(block.timestamp + unbondingSeconds);
        requests[requestId] = Request(_add(pot, amount), pot.generation, withdrawableAt);
    }

    /// @dev What a request of the caller is worth once its clock has run. Shares of an earlier generation are worth nothing.
    function _close(mapping(uint256 requestId => Request) storage requests, uint256 requestId, SharePot.Pot storage pot)
        private
        returns (uint128)
    {
        Request memory request = requests[requestId];
        if (request.withdrawableAt == 0) revert UnknownRequest(msg.sender, requestId);
        if (block.timestamp < request.withdrawableAt) {
            revert UnbondingNotOver(request.withdrawableAt, block.timestamp);
        }
        delete requests[requestId];
        return request.generation == pot.generation ? pot.remove(request.shares) : 0;
    }

    function _worth(Request storage request, SharePot.Pot storage pot) private view returns (uint128, uint64) {
        return (pot.valueDown(request.shares, request.generation), request.withdrawableAt);
    }

    // ------------------------------------------------------------------ private: delegation and fees

    function _delegate(address provider, uint128 amount, uint160 minShares) private returns (uint160 shares) {
        if (provider == address(0)) revert ZeroAddress();
        if (amount < minDelegation) revert DelegationTooSmall(minDelegation, amount);
        _pull(amount);
        (FeeStream.Stream memory stream, Delegation memory position) = _settled(provider, msg.sender);
        SharePot.Pot storage pool = _pots[provider].delegated;
        if (pool.isSpent() || _pots[provider].undelegating.isSpent()) revert PotSpent();
        shares = _add(pool, amount);
        if (shares < minShares) revert SharesBelowMinimum(minShares, shares);
        // Checked; a position is a part of the pool, which fits.
        position.shares += shares;
        _store(provider, stream, position);
        emit Delegated(provider, msg.sender, amount, shares, pool.tokens);
    }

    function _advanced(address provider) private view returns (FeeStream.Stream memory) {
        return _streams[provider].advanced(_pots[provider].delegated.shares, block.timestamp);
    }

    /// @dev The provider's stream as it is now, and the position with what it has earned so far. A position of an earlier
    /// generation has no shares any more, and what it carried goes back to the stream.
    function _settled(address provider, address delegator)
        private
        view
        returns (FeeStream.Stream memory stream, Delegation memory position)
    {
        stream = _advanced(provider);
        position = _delegations[provider][delegator];
        uint32 generation = _pots[provider].delegated.generation;
        bool present = position.generation == generation;
        uint256 until = present ? stream.perShare : _lastPerShare[provider][position.generation];
        uint128 earned;
        (earned, position.carry) = FeeStream.earned(position.shares, position.perShare, until, position.carry);
        position.earned += earned;
        position.perShare = stream.perShare;
        if (!present) {
            stream.carry += position.carry;
            position.carry = 0;
            position.shares = 0;
            position.generation = generation;
        }
    }

    function _store(address provider, FeeStream.Stream memory stream, Delegation memory position) private {
        _keep(provider, stream);
        _delegations[provider][msg.sender] = position;
    }

    function _keep(address provider, FeeStream.Stream memory stream) private {
        _streams[provider] = stream;
    }

    /// @dev The pool has no shares any more: what had not flowed is the treasury's.
    function _drain(address provider, FeeStream.Stream memory stream) private {
        uint128 rest = stream.drain();
        if (rest == 0) return;
        _fees[treasury] += rest;
        emit PoolDrained(provider, rest);
    }

    function _commissionNow(address provider) private view returns (uint16) {
        Commission storage commission = _commissions[provider];
        return block.timestamp < commission.effectiveAt ? commission.bps : commission.nextBps;
    }

    // ------------------------------------------------------------------ private: slashing

    function _slashOwn(address provider, uint128 asked) private returns (uint128 taken) {
        Stake storage own = _stakes[provider];
        uint128 bonded = own.bonded;
        taken = _least(asked, bonded);
        if (taken != 0) own.bonded = bonded - taken;
        SharePot.Pot storage leaving = _pots[provider].unbonding;
        uint128 fromLeaving = _least(asked - taken, leaving.tokens);
        if (fromLeaving != 0) _slash(leaving, provider, Pot.Unbonding, fromLeaving);
        taken += fromLeaving;
    }

    /// @dev Bonded and unbonding delegations lose in proportion; the rounded unit is taken from the unbonding.
    function _slashDelegators(address provider, uint128 asked) private returns (uint128 taken) {
        SharePot.Pot storage pool = _pots[provider].delegated;
        SharePot.Pot storage leaving = _pots[provider].undelegating;
        uint256 bonded = pool.tokens;
        uint256 total = bonded + leaving.tokens;
        if (total == 0) return 0;
        // Safe casts: at most what was asked for, at most what is bonded.
        taken = total < asked ? uint128(total) : asked;
        uint128 fromBonded = uint128(uint256(taken) * bonded / total);
        if (fromBonded != 0) {
            // A void pool's shares keep what they had earned; nobody earns what had not flowed.
            FeeStream.Stream memory stream = _advanced(provider);
            uint32 generation = pool.generation;
            if (_slash(pool, provider, Pot.Delegated, fromBonded)) {
                _lastPerShare[provider][generation] = stream.perShare;
                _drain(provider, stream);
                _keep(provider, stream);
            }
        }
        if (taken != fromBonded) _slash(leaving, provider, Pot.Undelegating, taken - fromBonded);
    }

    function _slash(SharePot.Pot storage pot, address provider, Pot kind, uint128 amount)
        private
        returns (bool voided)
    {
        uint128 rest;
        (voided, rest) = pot.slash(amount);
        if (!voided) return false;
        if (rest != 0) _bounties[treasury] += rest;
        emit PotVoided(provider, kind, pot.generation - 1, rest);
    }

    function _emitSlashed(address provider, bytes32 offenceId, uint128 slashed, uint128 bounty) private {
        emit Slashed(
            provider,
            offenceId,
            slashed,
            bounty,
            _stakes[provider].bonded,
            _pots[provider].unbonding.tokens,
            _pots[provider].delegated.tokens,
            _pots[provider].undelegating.tokens
        );
    }

    function _reward(uint128 slashed, bytes32 offenceId, address[] calldata beneficiaries)
        private
        returns (uint128 bounty)
    {
        uint256 count = beneficiaries.length;
        if (count == 0) return 0;
        // Safe cast: a part of what was slashed.
        uint128 each = uint128(CallPricing.shareDown(slashed, BOUNTY_LIMIT_BPS) / count);
        if (each == 0) return 0;
        for (uint256 i; i < count; ++i) {
            address beneficiary = beneficiaries[i];
            if (beneficiary == address(0)) continue;
            _bounties[beneficiary] += each;
            bounty += each;
            emit BountyCredited(beneficiary, offenceId, each);
        }
    }

    function _least(uint128 a, uint128 b) private pure returns (uint128) {
        return a < b ? a : b;
    }

    // ------------------------------------------------------------------ private: paying out

    function _takeAll(mapping(address account => uint128) storage owed, address account)
        private
        returns (uint128 amount)
    {
        amount = owed[account];
        if (amount == 0) revert NothingToWithdraw(account);
        owed[account] = 0;
    }

    /// @dev A request slashed to nothing closes without a transfer.
    function _pay(IERC20 paid, address to, uint128 amount) private {
        if (amount != 0) paid.safeTransfer(to, amount);
    }

    /// @dev Tokens of the zero address or of this contract could never leave.
    function _checkRecipient(address to) private view {
        if (to == address(0) || to == address(this)) revert InvalidRecipient(to);
    }
}
