// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @title The escrow: whose money waits for what
/// @notice Holds one payment token. Every account has money that is `available` (it leaves at once) and money that is
/// `locked` (the market alone frees or pays it). Every channel has what was ever `deposited` in it and what of that was
/// `claimed`; the difference leaves only by a voucher, by `close` or by `release`. Every payee has `credit` it has earned
/// and `fees` set aside at its withdrawals.
///
///   channel              verb                        who                             to
///   any                  depositToChannel, fund,     anyone with tokens, payer,      deposited rises
///                        fundWithAllowance           allowance's signer
///   deposited > claimed  redeem, withdrawCredit      anyone with vouchers            claimed rises to min(deposited, total)
///   deposited > claimed  release                     provider or its operator key    deposited falls by the amount
///   deposited > claimed  requestClose                payer                           closeAt set
///   closeAt set          cancelClose                 payer                           closeAt unset
///   closeAt reached      close                       anyone                          deposited falls to claimed
///
/// `claimed` never falls, so no voucher is paid twice, also when a channel is funded again after `close`.
/// @dev Assumptions about the token: a plain ERC-20 of any decimals that returns true or nothing and moves exactly what it is
/// asked to move. Warning: a fee on transfer makes every deposit revert; a rebasing token or one with callbacks must not
/// be used, its rebases are not shared out. Amounts are in the token's smallest unit.
/// The escrow emits nothing when the market locks, unlocks or settles: the market's events carry every figure.
/// "Until t" includes t. Channel signers and operator keys sign by ECDSA only; a payer may be a contract (EIP-1271).
/// When a fork changes the chain id, vouchers and allowances signed before count no more; channels keep their ids, and
/// `close` and `release` ask for no signature.
interface IComputeEscrow {
    // ------------------------------------------------------------------ what is signed

    /// @notice What the payer owes the provider on one channel, all calls together; signed by the channel's signer, who
    /// is not named: it is recovered and completes the channel.
    /// @param receipt Digest of the provider's last receipt on the channel, which commits to all before it; zero if none.
    struct Voucher {
        address payer;
        address provider;
        uint96 salt;
        uint128 total;
        bytes32 receipt;
    }

    /// @notice How much `signer` may move from the payer's available money into channels that it signs for; signed by the
    /// payer. Covers channels of any provider and salt.
    /// @param cap Sum over the allowance's life.
    /// @param expiresAt Unix seconds until which it is good.
    /// @param purpose Goes into the event: an appId, or zero.
    /// @param nonce Any number; tells two allowances with the same figures apart.
    struct ChannelAllowance {
        address payer;
        address signer;
        uint128 cap;
        uint64 expiresAt;
        bytes32 purpose;
        uint256 nonce;
    }

    // ------------------------------------------------------------------ what is shown

    /// @notice One payer's money for one provider. Its id is keccak256(abi.encode(payer, signer, provider, salt)).
    /// @param signer Signs vouchers; ECDSA only, never zero. May be the payer.
    /// @param salt Any number: two parties have as many channels as they like.
    struct Channel {
        address payer;
        address signer;
        address provider;
        uint96 salt;
    }

    /// @notice A voucher with its signature, in five words; the provider is the batch's.
    /// @param payerAndSalt The payer in the upper 160 bits, the channel's salt in the lower 96.
    /// @param r First word of the signature.
    /// @param vs Second word, as EIP-2098 has it.
    struct Row {
        uint256 payerAndSalt;
        uint128 total;
        bytes32 receipt;
        bytes32 r;
        bytes32 vs;
    }

    // ------------------------------------------------------------------ events

    /// @notice `payer`'s tokens arrived and are available to `account`.
    event Deposited(address indexed account, address indexed payer, uint128 amount);

    /// @notice Available money of `account` left to `to`.
    event Withdrawn(address indexed account, address indexed to, uint128 amount);

    /// @notice The whole credit of `payee`, `paid + fee`, was paid out: `paid` went to its payout address `to`.
    event CreditWithdrawn(address indexed payee, address indexed to, uint128 paid, uint128 fee);

    /// @notice From now on `payout` receives the credit of `payee`, and alone may name the next address.
    event PayoutAddressSet(address indexed payee, address indexed payout);

    /// @notice Fees set aside at withdrawals of `payee` went to its staking pool and to the treasury.
    event FeesShared(address indexed payee, uint128 toPool, uint128 toTreasury);

    /// @notice `source`'s tokens arrived in a channel, which has seen `deposited` in all.
    event ChannelDeposited(
        bytes32 indexed channelId,
        address indexed payer,
        address indexed provider,
        address signer,
        uint96 salt,
        address source,
        uint128 amount,
        uint128 deposited
    );

    /// @notice Available money of the payer went into a channel, which has seen `deposited` in all.
    event ChannelFunded(
        bytes32 indexed channelId,
        address indexed payer,
        address indexed provider,
        address signer,
        uint96 salt,
        uint128 amount,
        uint128 deposited
    );

    /// @notice The `ChannelFunded` beside it was made under an allowance, given by its digest, of which `spent` is used.
    event AllowanceUsed(
        bytes32 indexed allowance,
        address indexed payer,
        bytes32 indexed purpose,
        bytes32 channelId,
        uint128 amount,
        uint128 spent
    );

    /// @notice The payer lets nobody use the allowance with this digest any more.
    event AllowanceRevoked(bytes32 indexed allowance, address indexed payer);

    /// @notice A voucher moved `amount` from a channel into the provider's credit, or out with it in the `CreditWithdrawn` of
    /// the same transaction; `claimed` in all. `receipt` is the voucher's.
    event VoucherRedeemed(
        bytes32 indexed channelId,
        address indexed payer,
        address indexed provider,
        uint128 amount,
        uint128 claimed,
        bytes32 receipt
    );

    /// @notice Anyone may close the channel from `closeAt` on.
    event CloseRequested(bytes32 indexed channelId, address indexed payer, address indexed provider, uint64 closeAt);

    /// @notice The payer changed its mind.
    event CloseCancelled(bytes32 indexed channelId, address indexed payer, address indexed provider);

    /// @notice What was not claimed, `amount`, is available to the payer again; `deposited` is what was claimed.
    event ChannelClosed(
        bytes32 indexed channelId, address indexed payer, address indexed provider, uint128 amount, uint128 deposited
    );

    /// @notice The provider gave `amount` of what was not claimed back to the payer.
    event ChannelReleased(
        bytes32 indexed channelId, address indexed payer, address indexed provider, uint128 amount, uint128 deposited
    );

    // ------------------------------------------------------------------ errors: expected first, actual second

    error OnlyMarket(address expected, address actual);
    error InsufficientAvailable(uint128 required, uint128 actual);
    error InsufficientLocked(uint128 required, uint128 actual);
    error DepositNotExact(uint256 expected, uint256 actual);
    error InvalidRecipient(address recipient);
    error OnlyPayoutAddress(address expected, address actual);
    error NoCredit(address payee);
    error NoFees(address payee);
    error ZeroAmount();
    /// @dev No sum of this token's amounts may pass 2^128.
    error AmountTooLarge();
    error SharesAboveCharge(uint256 charge, uint256 shares);
    error ZeroAddress();
    error ProtocolFeeTooHigh(uint256 limitBps, uint256 actualBps);
    error PoolShareTooHigh(uint256 limitBps, uint256 actualBps);
    error ClosePeriodOutOfRange(uint256 shortest, uint256 longest, uint256 actual);
    error ChannelWithoutSigner();
    error OnlyPayer(address expected, address actual);
    error OnlySigner(address expected, address actual);
    error OnlyProvider(address expected, address actual);
    error InsufficientUnclaimed(uint128 required, uint128 actual);
    error NothingUnclaimed(bytes32 channelId);
    error CloseAlreadyRequested(uint64 closeAt);
    error CloseNotRequested(bytes32 channelId);
    error ClosePeriodNotOver(uint64 closeAt, uint256 actual);
    error InvalidAllowanceSignature(address expected, address actual);
    error AllowanceExpired(uint64 expiresAt, uint256 actual);
    error AllowanceExceeded(uint128 cap, uint256 actual);
    error AllowanceWasRevoked(bytes32 allowance);

    // ------------------------------------------------------------------ paying in and taking out

    /// @notice Pull `amount` from the caller and make it available to `to`. Paid in for another, it is a gift.
    /// @dev Reverts with `DepositNotExact` unless the escrow's balance moved by exactly `amount`.
    function deposit(address to, uint128 amount) external;

    /// @notice The same with an EIP-2612 permit of the caller. A permit that somebody used up first is no failure if
    /// the allowance is there.
    function depositWithPermit(address to, uint128 amount, uint256 deadline, uint8 v, bytes32 r, bytes32 s) external;

    /// @notice Anyone submits `from`'s EIP-3009 `receiveWithAuthorization`; its nonce is
    /// `keccak256(abi.encode(to, salt))`, so no relayer sends the money to another account.
    function depositWithAuthorization(
        address from,
        address to,
        uint128 amount,
        uint256 validAfter,
        uint256 validBefore,
        bytes32 salt,
        uint8 v,
        bytes32 r,
        bytes32 s
    ) external;

    /// @notice Send available money of the caller to `to`, at once.
    function withdraw(uint128 amount, address to) external;

    // ------------------------------------------------------------------ paying a provider by the call

    /// @notice Pull `amount` from the caller into a channel. Paid in for another payer, it is a gift: it comes back to that
    /// payer.
    /// @dev Warning: anyone can put money into a channel that names you as its payer, and choose its signer; the money it
    /// can spend is what was put there.
    function depositToChannel(Channel calldata channel, uint128 amount) external;

    /// @notice The same with an EIP-2612 permit of the caller.
    function depositToChannelWithPermit(
        Channel calldata channel,
        uint128 amount,
        uint256 deadline,
        uint8 v,
        bytes32 r,
        bytes32 s
    ) external;

    /// @notice Anyone submits `from`'s EIP-3009 `receiveWithAuthorization`; its nonce is
    /// `keccak256(abi.encode(channelId, salt))`, `salt` being any word, not the channel's.
    function depositToChannelWithAuthorization(
        address from,
        Channel calldata channel,
        uint128 amount,
        uint256 validAfter,
        uint256 validBefore,
        bytes32 salt,
        uint8 v,
        bytes32 r,
        bytes32 s
    ) external;

    /// @notice Payer: move available money into a channel. Opens it or tops it up; a requested close stays requested.
    function fund(Channel calldata channel, uint128 amount) external;

    /// @notice The allowance's signer: the same with the payer's available money, into a channel of that payer and signer.
    /// @param signature The payer's over the allowance: ECDSA, or EIP-1271.
    function fundWithAllowance(
        ChannelAllowance calldata allowance,
        bytes calldata signature,
        address provider,
        uint96 salt,
        uint128 amount
    ) external;

    /// @notice Payer: the allowance of this digest moves nothing any more. Channels already funded stay as they are.
    /// @dev Only an allowance that the caller itself signed is touched: it is kept by payer and digest.
    function revokeAllowance(bytes32 allowance) external;

    /// @notice Payer: from `closeSeconds` after now on, anyone may close the channel. Until `close` is executed, vouchers
    /// are paid.
    function requestClose(Channel calldata channel) external returns (uint64 closeAt);

    /// @notice Payer: take the request back.
    function cancelClose(Channel calldata channel) external;

    /// @notice Anyone, once the period is over: what was not claimed is available to the payer.
    /// @return amount What became available; zero if all was claimed.
    function close(Channel calldata channel) external returns (uint128 amount);

    /// @notice Provider or its operator key: give `amount` of what was not claimed back to the payer, at once.
    function release(Channel calldata channel, uint128 amount) external;

    // ------------------------------------------------------------------ being paid

    /// @notice Anyone: turn vouchers into the provider's credit. Each row pays min(deposited, total) - claimed of its
    /// channel. A row that pays nothing now (wrong signature, empty channel, older than another, malformed) is skipped and
    /// left as it was; it may pay later, after a top-up.
    /// @return paid Sum over the rows.
    function redeem(address provider, Row[] calldata rows) external returns (uint128 paid);

    /// @notice Anyone: redeem the rows, if any, then pay all credit of `payee`, less the protocol fee (rounded down), to its
    /// payout address.
    /// @return paid What arrived there.
    function withdrawCredit(address payee, Row[] calldata rows) external returns (uint128 paid);

    /// @notice Name the address that receives `payee`'s credit. Callable by the present payout address only: the payee
    /// itself until the first change.
    function setPayoutAddress(address payee, address payout) external;

    /// @notice Anyone: send the fees set aside for `payee` to its staking pool, `poolShareBps` of them rounded down, and the
    /// rest to the treasury; all to the treasury if it has no pool.
    function shareFees(address payee) external returns (uint128 toPool, uint128 toTreasury);

    // ------------------------------------------------------------------ obeying the market

    /// @notice Market only: available becomes locked.
    function lockAvailable(address account, uint128 amount) external;

    /// @notice Market only: locked becomes available.
    function unlock(address account, uint128 amount) external;

    /// @notice Market only: pay one charge out of a consumer's money into credits.
    /// @dev Its name gives it the lowest selector, which a dispatcher tries first: the market calls it for every task.
    /// @param account The consumer that pays.
    /// @param unlocked What was locked for this charge and now stops being so; zero if the charge comes out of available.
    /// @param charge What the consumer pays, all shares together; what was unlocked above it becomes available.
    /// @param provider Receives the charge less the two shares.
    /// @param dispatcher Receives `dispatcherShare`; any address if that is zero.
    /// @param dispatcherShare Amount for the dispatcher.
    /// @param royaltyTo Receives `royaltyShare`; any address if that is zero.
    /// @param royaltyShare Amount for the owner of the app.
    function payProviderFrom(
        address account,
        uint256 unlocked,
        uint256 charge,
        address provider,
        address dispatcher,
        uint256 dispatcherShare,
        address royaltyTo,
        uint256 royaltyShare
    ) external;

    // ------------------------------------------------------------------ reading

    function accountOf(address account) external view returns (uint128 available, uint128 locked);

    function payeeOf(address payee) external view returns (uint128 credit, uint128 fees);

    function payoutAddressOf(address payee) external view returns (address);

    /// @notice Zeros for a channel that nobody ever paid into; `closeAt` zero while no close is requested.
    function channelOf(bytes32 channelId) external view returns (uint128 deposited, uint128 claimed, uint64 closeAt);

    function channelIdOf(Channel calldata channel) external pure returns (bytes32);

    /// @notice What each row would pay if `redeem` were called with all of them now.
    /// @dev For calls, not for transactions: compares every row with those before it.
    function redeemable(address provider, Row[] calldata rows) external view returns (uint128[] memory amounts);

    /// @notice How much of an allowance is used, and whether its payer revoked it.
    function allowanceOf(address payer, bytes32 allowance) external view returns (uint128 spent, bool revoked);

    /// @notice The nonce an EIP-3009 authorization must carry to be deposited for `to`.
    function authorizationNonce(address to, bytes32 salt) external pure returns (bytes32);

    /// @notice The nonce an EIP-3009 authorization must carry to be deposited into a channel. An account's is over an
    /// address, whose word starts with 96 zero bits; an id is a hash.
    function channelAuthorizationNonce(bytes32 channelId, bytes32 salt) external pure returns (bytes32);

    function digestOfVoucher(Voucher calldata voucher) external view returns (bytes32);

    function digestOfChannelAllowance(ChannelAllowance calldata allowance) external view returns (bytes32);

    function token() external view returns (address);

    function market() external view returns (address);

    /// @notice Knows the operator keys that may release, and takes the pools' part of the fees.
    function staking() external view returns (address);

    function treasury() external view returns (address);

    /// @notice Taken from credit when it is withdrawn, in basis points; never above 500.
    function protocolFeeBps() external view returns (uint16);

    /// @notice Part of the fees that goes to the payee's staking pool, in basis points.
    function poolShareBps() external view returns (uint16);

    /// @notice Between a request to close a channel and its close.
    function closeSeconds() external view returns (uint32);
}
