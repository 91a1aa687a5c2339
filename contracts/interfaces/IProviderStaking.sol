// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @title Staking: who may serve, and what they stand to lose
/// @notice A provider's own stake, `unit` of it per GPU; the GPUs it offers; the keys that sign for it; what others
/// delegated behind it, and their share of the protocol's fees.
///
///   verb                                       who                        effect
///   stake, stakeWithPermit                     anyone, for itself         own stake bonded
///   requestUnbond, withdrawStake               provider                   own stake leaves, on each request's own clock
///   registerGpus                               provider or operator key   says what the stake backs
///   bindOperatorKey, retireOperatorKey         provider                   who signs for it
///   setCommission                              provider                   its part of the fees, after notice
///   unjail                                     provider                   after the jail time, with a unit bonded
///   delegate, delegateWithPermit               anyone, for itself         shares in a provider's pool
///   requestUndelegate, withdrawDelegation      delegator                  shares leave, on each request's own clock
///   claimRewards                               delegator                  fees that its shares earned
///   withdrawFees, withdrawBounty, burnSlashed  anyone                     pays to whom it belongs
///   addFees                                    escrow                     fees flow to the pool
///   slash, setSeats                            court                      what a verdict costs; stake set aside for seats
///
/// Stake that a verdict takes goes in this order: own bonded, seats included; own unbonding; then what delegators bonded and
/// what they are unbonding, in proportion. At most a fifth is for those who proved the offence, the rest is burned.
/// @dev Assumptions about the staking token and the payment token: plain ERC-20s that move exactly what they are asked to
/// move, without callbacks. They may be one token: balances are never read for what belongs to whom.
/// Stake leaves in two steps: a request, on a clock of its own, then a withdrawal once `unbondingSeconds` have passed.
/// Neither new stake nor another request moves that clock. Until it is withdrawn, a slash reaches it.
/// The gas of no verb depends on how many delegators or requests there are.
/// GPUs: a slash may leave less stake than the registered GPUs need. The registration stands as what the provider said;
/// `unitsOf` falls at once and is what proofs are held against, so what a provider can be given is
/// min(unitsOf, gpusOf). Until it stakes again or registers fewer it can unbond nothing. (0, 0) can always be registered.
interface IProviderStaking {
    // ------------------------------------------------------------------ what is fixed at deployment

    /// @param unbondingSeconds From a request to unbond or undelegate until it can be withdrawn.
    /// @param retiredKeySeconds How long a retired key stays answerable.
    /// @param commissionNoticeSeconds From `setCommission` until the new commission holds.
    /// @param jailSeconds From a slash until the provider may lift its jail.
    /// @param streamSeconds Over how long fees reach the pool.
    struct Clocks {
        uint32 unbondingSeconds;
        uint32 retiredKeySeconds;
        uint32 commissionNoticeSeconds;
        uint32 jailSeconds;
        uint32 streamSeconds;
    }

    /// @notice What is held in shares: a provider's own unbonding, its delegators' bonded, its delegators' unbonding stake.
    enum Pot {
        Unbonding,
        Delegated,
        Undelegating
    }

    // ------------------------------------------------------------------ events

    /// @notice `provider` added `amount`; `bonded` is its own stake after it.
    event Staked(address indexed provider, uint128 amount, uint128 bonded);

    /// @notice `amount` stopped backing the provider and can be withdrawn from `withdrawableAt` on.
    event UnbondRequested(
        address indexed provider, uint256 indexed requestId, uint128 amount, uint64 withdrawableAt, uint128 bonded
    );

    /// @notice An unbonding request was paid out; `amount` is what slashes left of it.
    event StakeWithdrawn(address indexed provider, uint256 indexed requestId, address indexed to, uint128 amount);

    /// @notice `key` signs for `provider`, with its own consent, and never for another.
    event OperatorKeyBound(address indexed provider, address indexed key);

    /// @notice `key` proves nothing new; what it signed before can be held against the provider until `answerableUntil`.
    event OperatorKeyRetired(address indexed provider, address indexed key, uint64 answerableUntil);

    /// @notice `provider` offers `gpus` GPUs whose ids have the Merkle root `gpuSet`.
    event GpusRegistered(address indexed provider, uint32 gpus, bytes32 gpuSet);

    /// @notice `delegator` put `amount` behind `provider` for `shares`; `delegated` is the pool after it.
    event Delegated(
        address indexed provider, address indexed delegator, uint128 amount, uint160 shares, uint128 delegated
    );

    /// @notice `shares` left the pool of `provider` for `amount`, withdrawable from `withdrawableAt` on; `delegated` is the
    /// pool after it.
    event UndelegateRequested(
        address indexed provider,
        address indexed delegator,
        uint256 indexed requestId,
        uint160 shares,
        uint128 amount,
        uint64 withdrawableAt,
        uint128 delegated
    );

    /// @notice An undelegation was paid out; `amount` is what slashes left of it.
    event DelegationWithdrawn(
        address indexed provider, address indexed delegator, uint256 indexed requestId, address to, uint128 amount
    );

    /// @notice The commission of `provider` is `bps` from `effectiveAt` on.
    event CommissionSet(address indexed provider, uint16 bps, uint64 effectiveAt);

    /// @notice Of `amount` in fees, `commission` is the provider's; the rest flows with what has not flowed yet, together
    /// `remaining`, until `endsAt` (unix seconds, rounded up).
    event FeesAdded(address indexed provider, uint128 amount, uint128 commission, uint128 remaining, uint64 endsAt);

    /// @notice Nobody is left in the pool of `provider`: what had not flowed is the treasury's to withdraw.
    event PoolDrained(address indexed provider, uint128 amount);

    /// @notice `delegator` was paid `amount` that its shares in the pool of `provider` had earned.
    event RewardsClaimed(address indexed provider, address indexed delegator, address indexed to, uint128 amount);

    /// @notice Commission of `account`, or what drained pools left to the treasury, was paid to it.
    event FeesWithdrawn(address indexed account, uint128 amount);

    /// @notice `amount` was taken from `provider`, `bounty` of it for those who proved the offence. What follows is what is
    /// left: own bonded, own unbonding, delegated, undelegating.
    event Slashed(
        address indexed provider,
        bytes32 indexed offenceId,
        uint128 amount,
        uint128 bounty,
        uint128 bonded,
        uint128 unbonding,
        uint128 delegated,
        uint128 undelegating
    );

    /// @notice A slash took all but a 2^32nd of a pot at most: its shares are void, `rest` is the treasury's to withdraw.
    event PotVoided(address indexed provider, Pot indexed pot, uint32 generation, uint128 rest);

    /// @notice `amount` of slashed stake is `account`'s to withdraw.
    event BountyCredited(address indexed account, bytes32 indexed offenceId, uint128 amount);

    event BountyWithdrawn(address indexed account, uint128 amount);

    /// @notice Slashed stake went to the burn address.
    event SlashedBurned(uint128 amount);

    /// @notice `provider` can lift its jail from `until` on.
    event Jailed(address indexed provider, uint64 until);

    event Unjailed(address indexed provider);

    /// @notice `seats` units of the provider's bonded stake are set aside for checking others' work.
    event SeatsSet(address indexed provider, uint16 seats);

    // ------------------------------------------------------------------ errors: expected first, actual second

    error StakeTooLow(uint256 required, uint256 actual);
    error InsufficientBonded(uint128 required, uint128 actual);
    /// @dev The rest would no longer back the registered GPUs and the seats: register fewer first, or leave seats.
    error StakeBacksGpus(uint256 required, uint256 remaining);
    error UnknownRequest(address owner, uint256 requestId);
    error UnbondingNotOver(uint64 withdrawableAt, uint256 actual);
    error KeyAlreadyBound(address key, address provider);
    error KeyNotBound(address key);
    error KeyAlreadyRetired(address key, uint64 retiredAt);
    /// @dev The caller itself, or a provider with bonded stake.
    error KeyIsProvider(address key);
    error OnlyProvider(address expected, address actual);
    error InvalidKeySignature(address expected, address actual);
    error GpuSetMissing(uint32 gpus);
    error DelegationTooSmall(uint128 minimum, uint128 actual);
    error InsufficientShares(uint160 required, uint160 actual);
    /// @dev Slashes left next to nothing behind very many shares.
    error PotSpent();
    /// @dev A slash came in between: look at the pool, then ask again.
    error SharesBelowMinimum(uint160 minimum, uint160 actual);
    /// @dev A slash came in between: look at the pool, then ask again.
    error AmountBelowMinimum(uint128 minimum, uint128 actual);
    error CommissionTooHigh(uint16 limit, uint16 actual);
    error NoPool(address provider);
    error NothingToWithdraw(address account);
    error AlreadyPunished(bytes32 offenceId);
    error ProviderJailed(address provider, uint64 until);
    error NotJailed(address provider);
    error JailNotOver(uint64 until, uint256 actual);
    error OnlyCourt(address expected, address actual);
    error OnlyEscrow(address expected, address actual);
    error WrongNeighbour(address expected, address actual);
    error DepositNotExact(uint256 expected, uint256 actual);
    error InvalidRecipient(address recipient);
    error ZeroAmount();
    error ZeroAddress();

    // ------------------------------------------------------------------ standing behind one's work

    /// @notice Pull `amount` of the staking token from the caller and bond it as the caller's own stake.
    function stake(uint128 amount) external;

    /// @notice The same with an EIP-2612 permit; one that somebody used up first is no failure if the allowance is there.
    function stakeWithPermit(uint128 amount, uint256 deadline, uint8 v, bytes32 r, bytes32 s) external;

    /// @notice Stop bonding `amount` of the caller's stake. What remains must still back its registered GPUs and its seats.
    /// @return requestId Counts from 0 for each provider.
    function requestUnbond(uint128 amount) external returns (uint256 requestId);

    /// @notice Pay an unbonding request of the caller out to `to`, once its own clock has run.
    /// @return amount What slashes left of it; zero closes the request and moves nothing.
    function withdrawStake(uint256 requestId, address to) external returns (uint128 amount);

    // ------------------------------------------------------------------ offering GPUs

    /// @notice State how many GPUs the provider offers and the Merkle root of their ids. Replaces the earlier statement;
    /// (0, 0) withdraws it. Needs own bonded stake of `unit` per GPU, seats not counted.
    /// @dev Called by the provider or by one of its operator keys. Warning: an address that is an operator key always
    /// acts for its provider here, never for itself.
    function registerGpus(bytes32 gpuSet, uint32 gpus) external;

    // ------------------------------------------------------------------ lending the pen

    /// @notice Bind `key` to the caller for ever. `signature` is the key's own over `OperatorKey(provider, key)`. Refused
    /// while the key has stake bonded of its own.
    function bindOperatorKey(address key, bytes calldata signature) external;

    /// @notice Provider only: the key proves nothing new from now on. There is no way back.
    function retireOperatorKey(address key) external;

    // ------------------------------------------------------------------ standing behind another's work

    /// @notice Pull `amount`, at least `minDelegation`, of the staking token from the caller and put it behind `provider`.
    /// @param minShares Reverts for fewer: a price that changed under way is refused.
    /// @return shares A slash of the delegators makes each worth less, and newcomers' shares more in number.
    function delegate(address provider, uint128 amount, uint160 minShares) external returns (uint160 shares);

    /// @notice The same with an EIP-2612 permit; one that somebody used up first is no failure if the allowance is there.
    function delegateWithPermit(
        address provider,
        uint128 amount,
        uint160 minShares,
        uint256 deadline,
        uint8 v,
        bytes32 r,
        bytes32 s
    ) external returns (uint160 shares);

    /// @notice Take `shares` of the caller's out of the pool of `provider`. They earn no more; a slash reaches what they are
    /// worth until it is withdrawn. What stays is nothing, or worth `minDelegation` at least.
    /// @param minAmount Reverts for less.
    /// @return requestId Counts from 0 for each delegator, over all providers.
    /// @return amount What the request is worth now.
    function requestUndelegate(address provider, uint160 shares, uint128 minAmount)
        external
        returns (uint256 requestId, uint128 amount);

    /// @notice Pay an undelegation of the caller out to `to`, once its own clock has run.
    /// @return amount What slashes left of it; zero closes the request and moves nothing.
    function withdrawDelegation(uint256 requestId, address to) external returns (uint128 amount);

    /// @notice Pay what the caller's shares in the pool of `provider` have earned to `to`, in the payment token. Shares that
    /// left, or that a slash made void, keep what they had earned.
    function claimRewards(address provider, address to) external returns (uint128 amount);

    // ------------------------------------------------------------------ sharing in the fees

    /// @notice Provider only: from `commissionNoticeSeconds` after now on, `bps` of the fees are the provider's own before
    /// its pool gets any. Replaces an announcement that does not hold yet.
    function setCommission(uint16 bps) external;

    /// @notice Escrow only: `amount` of the payment token was transferred here for the pool of `provider`. Commission,
    /// rounded down, is the provider's at once; the rest flows to the pool's shares over `streamSeconds`.
    function addFees(address provider, uint128 amount) external;

    /// @notice Anyone: pay commission of `account`, or what drained pools left to the treasury, to `account`.
    function withdrawFees(address account) external returns (uint128 amount);

    // ------------------------------------------------------------------ the court's orders

    /// @notice Court only: take `amount`, or what there is, and jail the provider.
    /// @dev Nothing that provider, delegators or beneficiaries do makes this revert: no token moves here.
    /// Reverts with `AlreadyPunished` for an offence that was punished, whatever it brought.
    /// @param offenceId Any number that names the offence.
    /// @param beneficiaries Share a fifth of what was taken equally, rounded down; the zero address's part is burned.
    /// @return slashed What was taken.
    function slash(address provider, uint128 amount, bytes32 offenceId, address[] calldata beneficiaries)
        external
        returns (uint128 slashed);

    /// @notice Court only: set `seats` units of the provider's bonded stake aside. More than before needs that much own
    /// stake beside what registered GPUs need, and no jail; fewer is always possible.
    function setSeats(address provider, uint16 seats) external;

    /// @notice Provider only: lift the jail once its time is over, with a unit bonded.
    function unjail() external;

    /// @notice Anyone: pay the bounties of `account` to it, in the staking token.
    function withdrawBounty(address account) external returns (uint128 amount);

    /// @notice Anyone: send slashed stake that is nobody's bounty to 0x...dEaD.
    function burnSlashed() external returns (uint128 amount);

    // ------------------------------------------------------------------ reading

    /// @notice The provider's own stake: `bonded` backs its GPUs and seats, `unbonding` is on its way out.
    function stakeOf(address provider) external view returns (uint128 bonded, uint128 unbonding);

    /// @notice How many GPUs the provider registered. A slash may leave less stake than they need: see `unitsOf`.
    function gpusOf(address provider) external view returns (uint32);

    /// @notice How many GPUs the provider's own bonded stake covers, what is set aside for seats not counted.
    function unitsOf(address provider) external view returns (uint256);

    /// @notice How many units of the provider's stake are set aside for seats, and how many of them its bonded stake
    /// still covers in full.
    function seatsOf(address provider) external view returns (uint16 seats, uint16 covered);

    /// @notice Whether the provider may be given no new work and no seat. What it has in hand can be proven.
    function isJailed(address provider) external view returns (bool);

    /// @notice From when on the provider can lift its jail; zero if it is not jailed.
    function jailedUntil(address provider) external view returns (uint64);

    /// @notice Whether the offence was punished.
    function isPunished(bytes32 offenceId) external view returns (bool);

    /// @notice One unbonding request at what it is worth now; zero once withdrawn, slashed to nothing, or if there never
    /// was one. `withdrawableAt` is zero only in the first and the last case.
    function unbondRequest(address provider, uint256 requestId)
        external
        view
        returns (uint128 amount, uint64 withdrawableAt);

    /// @notice How many unbonding requests the provider ever made.
    function unbondRequestsOf(address provider) external view returns (uint256);

    /// @notice Whether fees of `provider` have somebody here to go to.
    function hasPool(address provider) external view returns (bool);

    /// @notice What others put behind `provider`: tokens and shares of the pool, its generation, and what is unbonding.
    function poolOf(address provider)
        external
        view
        returns (uint128 delegated, uint160 shares, uint32 generation, uint128 undelegating);

    /// @notice The delegator's shares in the provider's pool, and what they are worth now.
    function delegationOf(address provider, address delegator) external view returns (uint160 shares, uint128 amount);

    /// @notice One undelegation at what it is worth now, as `unbondRequest`.
    function undelegateRequest(address delegator, uint256 requestId)
        external
        view
        returns (address provider, uint128 amount, uint64 withdrawableAt);

    /// @notice How many undelegations the delegator ever requested.
    function undelegateRequestsOf(address delegator) external view returns (uint256);

    /// @notice What the delegator could claim now, in the payment token.
    function rewardsOf(address provider, address delegator) external view returns (uint128);

    /// @notice What has not flowed to the provider's pool yet, and when it will have (unix seconds, rounded up).
    function streamOf(address provider) external view returns (uint128 remaining, uint64 endsAt);

    /// @notice The commission that holds now, and the one from `effectiveAt` on.
    function commissionOf(address provider) external view returns (uint16 bps, uint16 nextBps, uint64 effectiveAt);

    /// @notice Commission, and for the treasury what drained pools left: in the payment token.
    function feesOf(address account) external view returns (uint128);

    /// @notice Bounties, and for the treasury what void pots left: in the staking token.
    function bountyOf(address account) external view returns (uint128);

    /// @notice Slashed stake that nobody has sent to the burn address yet.
    function unburned() external view returns (uint128);

    /// @notice Whom `key` was bound to, and when it was retired; zeros if never.
    function operatorKey(address key) external view returns (address provider, uint64 retiredAt);

    /// @notice Whether a signature of `signer` proves work of `provider` today: its own, or a key not retired.
    function signsFor(address signer, address provider) external view returns (bool);

    /// @notice Whether `provider` must answer for what `signer` signed: also for 7 days after the key was retired.
    function answersFor(address provider, address signer) external view returns (bool);

    /// @notice What an operator key signs to be bound.
    function digestOfOperatorKey(address provider, address key) external view returns (bytes32);

    /// @notice The staking token.
    function token() external view returns (address);

    /// @notice The escrow's token, in which fees come.
    function paymentToken() external view returns (address);

    function escrow() external view returns (address);

    /// @notice Zero: nobody slashes, and there are no seats.
    function court() external view returns (address);

    /// @notice The escrow's.
    function treasury() external view returns (address);

    /// @notice Own stake per GPU, in the staking token's smallest unit.
    function unit() external view returns (uint128);

    /// @notice A hundredth of a unit.
    function minDelegation() external view returns (uint128);

    function unbondingSeconds() external view returns (uint32);

    function retiredKeySeconds() external view returns (uint32);

    function commissionNoticeSeconds() external view returns (uint32);

    function jailSeconds() external view returns (uint32);

    function streamSeconds() external view returns (uint32);
}
