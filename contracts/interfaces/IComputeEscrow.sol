// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @title The escrow: whose money waits for what
/// @notice Holds one payment token. Every account has money that is `available` (it leaves at once) and money that is
/// `locked` (the market alone frees or pays it). Every payee has `credit` it has earned and `fees` set aside for the
/// protocol at its withdrawals.
/// @dev Assumptions about the token: a plain ERC-20 of any decimals that returns true or nothing and moves exactly what it is
/// asked to move. Warning: a fee on transfer makes every deposit revert; a rebasing token or one with callbacks must not
/// be used, its rebases are not shared out. Amounts are in the token's smallest unit.
/// The escrow emits nothing when the market locks, unlocks or settles: the market's events carry every figure.
interface IComputeEscrow {
    // ------------------------------------------------------------------ events

    /// @notice `payer`'s tokens arrived and are available to `account`.
    event Deposited(address indexed account, address indexed payer, uint128 amount);

    /// @notice Available money of `account` left to `to`.
    event Withdrawn(address indexed account, address indexed to, uint128 amount);

    /// @notice The whole credit of `payee`, `paid + fee`, was paid out: `paid` went to its payout address `to`.
    event CreditWithdrawn(address indexed payee, address indexed to, uint128 paid, uint128 fee);

    /// @notice From now on `payout` receives the credit of `payee`, and alone may name the next address.
    event PayoutAddressSet(address indexed payee, address indexed payout);

    /// @notice Fees set aside at withdrawals of `payee` went to the treasury.
    event FeesShared(address indexed payee, uint128 toTreasury);

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

    // ------------------------------------------------------------------ being paid

    /// @notice Anyone: pay all credit of `payee`, less the protocol fee (rounded down), to its payout address.
    /// @return paid What arrived there.
    function withdrawCredit(address payee) external returns (uint128 paid);

    /// @notice Name the address that receives `payee`'s credit. Callable by the present payout address only: the payee
    /// itself until the first change.
    function setPayoutAddress(address payee, address payout) external;

    /// @notice Anyone: send the fees set aside for `payee` to the treasury.
    /// @return toTreasury What arrived there.
    function shareFees(address payee) external returns (uint128 toTreasury);

    // ------------------------------------------------------------------ obeying the market

    /// @notice Market only: available becomes locked.
    function lockAvailable(address account, uint128 amount) external;

    /// @notice Market only: locked becomes available.
    function unlock(address account, uint128 amount) external;

    /// @notice Market only: pay one charge out of a consumer's money into credits.
    /// @param account The consumer that pays.
    /// @param unlocked What was locked for this charge and now stops being so; zero if the charge comes out of available.
    /// @param charge What the consumer pays, all shares together; what was unlocked above it becomes available.
    /// @param provider Receives the charge less the two shares.
    /// @param dispatcher Receives `dispatcherShare`; any address if that is zero.
    /// @param dispatcherShare Amount for the dispatcher.
    /// @param royaltyTo Receives `royaltyShare`; any address if that is zero.
    /// @param royaltyShare Amount for the owner of the app.
    function pay(
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

    /// @notice The nonce an EIP-3009 authorization must carry to be deposited for `to`.
    function authorizationNonce(address to, bytes32 salt) external pure returns (bytes32);

    function token() external view returns (address);

    function market() external view returns (address);

    function staking() external view returns (address);

    function treasury() external view returns (address);

    /// @notice Taken from credit when it is withdrawn, in basis points; never above 500.
    function protocolFeeBps() external view returns (uint16);
}
