// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {IERC3009} from "@openzeppelin/contracts/interfaces/draft-IERC3009.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {IComputeEscrow} from "./interfaces/IComputeEscrow.sol";
import {IProviderStaking} from "./interfaces/IProviderStaking.sol";
import {CallPricing} from "./libraries/CallPricing.sol";
import {Channels} from "./libraries/Channels.sol";
import {ExactTransfer} from "./libraries/ExactTransfer.sol";
import {MessageHash} from "./libraries/MessageHash.sol";
import {Signatures} from "./libraries/Signatures.sol";
import {TallystickDomain} from "./libraries/TallystickDomain.sol";

/// @title The escrow: whose money waits for what
/// @dev Invariant: balance of the token >= all available + locked + credit + fees + (deposited - claimed); equal if nobody
/// sent tokens here without a deposit. Of every channel claimed <= deposited.
/// Only verbs that move the token guard against being entered again. The others call nobody but a payer's contract, by a
/// staticcall with a fixed gas, and the staking, for a view.
contract ComputeEscrow is IComputeEscrow, TallystickDomain, ReentrancyGuardTransient {
    using SafeERC20 for IERC20;
    using ExactTransfer for IERC20;
    using Channels for Channel;
    using Channels for Row;
    using MessageHash for ChannelAllowance;

    uint256 private constant PROTOCOL_FEE_LIMIT_BPS = 500;

    /// @dev Shorter, and a provider could be asleep while its channel closes; longer, and a payer could wait for ever.
    uint256 private constant SHORTEST_CLOSE_SECONDS = 1 hours;
    uint256 private constant LONGEST_CLOSE_SECONDS = 30 days;

    /// @dev In the word of an allowance, above what is spent.
    uint256 private constant REVOKED = 1 << 255;

    IERC20 private immutable _token;

    /// @inheritdoc IComputeEscrow
    address public immutable market;

    /// @inheritdoc IComputeEscrow
    address public immutable staking;

    /// @inheritdoc IComputeEscrow
    address public immutable treasury;

    /// @inheritdoc IComputeEscrow
    uint16 public immutable protocolFeeBps;

    /// @inheritdoc IComputeEscrow
    uint16 public immutable poolShareBps;

    /// @inheritdoc IComputeEscrow
    uint32 public immutable closeSeconds;

    /// @dev One word each, read once and written once: available in the low half, locked in the high half.
    mapping(address account => uint256) private _accounts;

    /// @dev Deposited in the low half, claimed in the high half; all that `redeem` touches of a channel.
    mapping(bytes32 channelId => uint256) private _channels;

    /// @dev Zero while no close is requested.
    mapping(bytes32 channelId => uint64) private _closeAts;

    /// @dev What is spent in the low half, `REVOKED` above it. By payer, so that nobody touches another's.
    mapping(address payer => mapping(bytes32 allowance => uint256)) private _allowances;

    /// @dev Credit in the low half, fees in the high half.
    mapping(address payee => uint256) private _payees;

    mapping(address payee => address) private _payoutAddresses;

    /// @param market_ Computed before its deployment; the market's constructor checks that it is this one.
    /// @param staking_ Likewise.
    constructor(
        address token_,
        address market_,
        address staking_,
        address treasury_,
        uint16 protocolFeeBps_,
        uint16 poolShareBps_,
        uint32 closeSeconds_
    ) TallystickDomain(address(this)) {
        if (token_ == address(0) || market_ == address(0) || staking_ == address(0) || treasury_ == address(0)) {
            revert ZeroAddress();
        }
        if (protocolFeeBps_ > PROTOCOL_FEE_LIMIT_BPS) {
            revert ProtocolFeeTooHigh(PROTOCOL_FEE_LIMIT_BPS, protocolFeeBps_);
        }
        if (poolShareBps_ > CallPricing.BPS) revert PoolShareTooHigh(CallPricing.BPS, poolShareBps_);
        if (closeSeconds_ < SHORTEST_CLOSE_SECONDS || closeSeconds_ > LONGEST_CLOSE_SECONDS) {
            revert ClosePeriodOutOfRange(SHORTEST_CLOSE_SECONDS, LONGEST_CLOSE_SECONDS, closeSeconds_);
        }
        _token = IERC20(token_);
        market = market_;
        staking = staking_;
        treasury = treasury_;
        protocolFeeBps = protocolFeeBps_;
        poolShareBps = poolShareBps_;
        closeSeconds = closeSeconds_;
    }

    modifier onlyMarket() {
        if (msg.sender != market) revert OnlyMarket(market, msg.sender);
        _;
    }

    // ------------------------------------------------------------------ a consumer pays in and takes out

    /// @inheritdoc IComputeEscrow
    function deposit(address to, uint128 amount) external nonReentrant {
        _deposit(to, amount);
    }

    /// @inheritdoc IComputeEscrow
    function depositWithPermit(address to, uint128 amount, uint256 deadline, uint8 v, bytes32 r, bytes32 s)
        external
        nonReentrant
    {
        _token.tryPermit(msg.sender, amount, deadline, v, r, s);
        _deposit(to, amount);
    }

    /// @inheritdoc IComputeEscrow
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
    ) external nonReentrant {
        _checkDeposit(to, amount);
        bytes32 nonce = authorizationNonce(to, salt);
        _pullAuthorized(from, amount, validAfter, validBefore, nonce, v, r, s);
        _addAvailable(to, from, amount);
    }

    /// @inheritdoc IComputeEscrow
    function withdraw(uint128 amount, address to) external nonReentrant {
        if (amount == 0) revert ZeroAmount();
        _checkRecipient(to);
        (uint128 available, uint128 locked) = _halves(_accounts[msg.sender]);
        _accounts[msg.sender] = _word(_availableLess(available, amount), locked);
        emit Withdrawn(msg.sender, to, amount);
        _token.safeTransfer(to, amount);
    }

    // ------------------------------------------------------------------ a payer opens a channel

    /// @inheritdoc IComputeEscrow
    function depositToChannel(Channel calldata channel, uint128 amount) external nonReentrant {
        _depositToChannel(channel, amount);
    }

    /// @inheritdoc IComputeEscrow
    function depositToChannelWithPermit(
        Channel calldata channel,
        uint128 amount,
        uint256 deadline,
        uint8 v,
        bytes32 r,
        bytes32 s
    ) external nonReentrant {
        _token.tryPermit(msg.sender, amount, deadline, v, r, s);
        _depositToChannel(channel, amount);
    }

    /// @inheritdoc IComputeEscrow
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
    ) external nonReentrant {
        _checkChannelDeposit(channel, amount);
        bytes32 nonce = channelAuthorizationNonce(channel.id(), salt);
        _pullAuthorized(from, amount, validAfter, validBefore, nonce, v, r, s);
        _addDeposited(channel, from, amount);
    }

    /// @inheritdoc IComputeEscrow
    function fund(Channel calldata channel, uint128 amount) external {
        _checkPayer(channel);
        _checkChannelDeposit(channel, amount);
        _fund(channel.payer, channel.signer, channel.provider, channel.salt, amount);
    }

    /// @inheritdoc IComputeEscrow
    function fundWithAllowance(
        ChannelAllowance calldata allowance,
        bytes calldata signature,
        address provider,
        uint96 salt,
        uint128 amount
    ) external {
        if (msg.sender != allowance.signer) revert OnlySigner(allowance.signer, msg.sender);
        if (amount == 0) revert ZeroAmount();
        _checkRecipient(provider);
        if (block.timestamp > allowance.expiresAt) revert AllowanceExpired(allowance.expiresAt, block.timestamp);
        address payer = allowance.payer;
        bytes32 digest = _digest(allowance.hash());
        _checkAllowanceSignature(payer, digest, signature);

        uint256 word = _allowances[payer][digest];
        if (word & REVOKED != 0) revert AllowanceWasRevoked(digest);
        // Two numbers of 128 bits.
        unchecked {
            word += amount;
        }
        if (word > allowance.cap) revert AllowanceExceeded(allowance.cap, word);
        _allowances[payer][digest] = word;
        bytes32 channelId = _fund(payer, msg.sender, provider, salt, amount);
        // Safe cast: not above the cap.
        emit AllowanceUsed(digest, payer, allowance.purpose, channelId, amount, uint128(word));
    }

    /// @inheritdoc IComputeEscrow
    function revokeAllowance(bytes32 allowance) external {
        uint256 word = _allowances[msg.sender][allowance];
        if (word & REVOKED != 0) revert AllowanceWasRevoked(allowance);
        _allowances[msg.sender][allowance] = word | REVOKED;
        emit AllowanceRevoked(allowance, msg.sender);
    }

    // ------------------------------------------------------------------ a channel ends

    /// @inheritdoc IComputeEscrow
    function requestClose(Channel calldata channel) external returns (uint64 closeAt) {
        _checkPayer(channel);
        bytes32 channelId = channel.id();
        closeAt = _closeAts[channelId];
        if (closeAt != 0) revert CloseAlreadyRequested(closeAt);
        (uint128 deposited, uint128 claimed) = _halves(_channels[channelId]);
        if (deposited == claimed) revert NothingUnclaimed(channelId);

        // Safe cast: a block's time and 30 days at most.
        closeAt = uint64(block.timestamp + closeSeconds);
        _closeAts[channelId] = closeAt;
        emit CloseRequested(channelId, channel.payer, channel.provider, closeAt);
    }

    /// @inheritdoc IComputeEscrow
    function cancelClose(Channel calldata channel) external {
        _checkPayer(channel);
        bytes32 channelId = channel.id();
        if (_closeAts[channelId] == 0) revert CloseNotRequested(channelId);
        delete _closeAts[channelId];
        emit CloseCancelled(channelId, channel.payer, channel.provider);
    }

    /// @inheritdoc IComputeEscrow
    function close(Channel calldata channel) external returns (uint128 amount) {
        bytes32 channelId = channel.id();
        uint64 closeAt = _closeAts[channelId];
        if (closeAt == 0) revert CloseNotRequested(channelId);
        if (block.timestamp < closeAt) revert ClosePeriodNotOver(closeAt, block.timestamp);
        (uint128 deposited, uint128 claimed) = _halves(_channels[channelId]);
        // claimed <= deposited.
        unchecked {
            amount = deposited - claimed;
        }

        delete _closeAts[channelId];
        _channels[channelId] = _word(claimed, claimed);
        _creditAvailable(channel.payer, amount);
        emit ChannelClosed(channelId, channel.payer, channel.provider, amount, claimed);
    }

    /// @inheritdoc IComputeEscrow
    function release(Channel calldata channel, uint128 amount) external {
        if (amount == 0) revert ZeroAmount();
        address provider = channel.provider;
        if (msg.sender != provider && !IProviderStaking(staking).signsFor(msg.sender, provider)) {
            revert OnlyProvider(provider, msg.sender);
        }
        bytes32 channelId = channel.id();
        (uint128 deposited, uint128 claimed) = _halves(_channels[channelId]);
        // claimed <= deposited; then, just compared.
        unchecked {
            if (deposited - claimed < amount) revert InsufficientUnclaimed(amount, deposited - claimed);
            deposited -= amount;
        }

        _channels[channelId] = _word(deposited, claimed);
        _creditAvailable(channel.payer, amount);
        emit ChannelReleased(channelId, channel.payer, provider, amount, deposited);
    }

    // ------------------------------------------------------------------ a payee takes what it earned

    /// @inheritdoc IComputeEscrow
    function redeem(address provider, Row[] calldata rows) external returns (uint128 paid) {
        uint256 sum = _redeem(provider, rows);
        if (sum != 0) _addCredit(provider, sum);
        // Safe cast: a credit holds it.
        paid = uint128(sum);
    }

    /// @inheritdoc IComputeEscrow
    function withdrawCredit(address payee, Row[] calldata rows) external nonReentrant returns (uint128 paid) {
        uint256 redeemed = _redeem(payee, rows);
        (uint128 credit, uint128 fees) = _halves(_payees[payee]);
        // What the rows brought does not go through storage. Less than 2^128 sums of 128 bits.
        unchecked {
            redeemed += credit;
        }
        if (redeemed > type(uint128).max) revert AmountTooLarge();
        // Safe cast: just compared.
        credit = uint128(redeemed);
        if (credit == 0) revert NoCredit(payee);
        // Safe cast: at most 5 % of the credit.
        uint128 fee = uint128(CallPricing.shareDown(credit, protocolFeeBps));
        _payees[payee] = _word(0, fees + fee);
        // Just said.
        unchecked {
            paid = credit - fee;
        }
        address payout = payoutAddressOf(payee);
        emit CreditWithdrawn(payee, payout, paid, fee);
        _token.safeTransfer(payout, paid);
    }

    /// @inheritdoc IComputeEscrow
    function setPayoutAddress(address payee, address payout) external {
        address present = payoutAddressOf(payee);
        if (msg.sender != present) revert OnlyPayoutAddress(present, msg.sender);
        _checkRecipient(payout);
        _payoutAddresses[payee] = payout;
        emit PayoutAddressSet(payee, payout);
    }

    /// @inheritdoc IComputeEscrow
    function shareFees(address payee) external nonReentrant returns (uint128 toPool, uint128 toTreasury) {
        (uint128 credit, uint128 fees) = _halves(_payees[payee]);
        if (fees == 0) revert NoFees(payee);
        // Safe cast: a part of the fees.
        if (IProviderStaking(staking).hasPool(payee)) toPool = uint128(CallPricing.shareDown(fees, poolShareBps));
        // Just said.
        unchecked {
            toTreasury = fees - toPool;
        }
        _payees[payee] = _word(credit, 0);
        emit FeesShared(payee, toPool, toTreasury);
        if (toPool != 0) {
            _token.safeTransfer(staking, toPool);
            IProviderStaking(staking).addFees(payee, toPool);
        }
        if (toTreasury != 0) _token.safeTransfer(treasury, toTreasury);
    }

    // ------------------------------------------------------------------ the market's orders

    /// @inheritdoc IComputeEscrow
    function lockAvailable(address account, uint128 amount) external onlyMarket {
        (uint128 available, uint128 locked) = _halves(_accounts[account]);
        _accounts[account] = _word(_availableLess(available, amount), locked + amount);
    }

    /// @inheritdoc IComputeEscrow
    function unlock(address account, uint128 amount) external onlyMarket {
        (uint128 available, uint128 locked) = _halves(_accounts[account]);
        _accounts[account] = _word(available + amount, _lockedLess(locked, amount));
    }

    /// @inheritdoc IComputeEscrow
    function payProviderFrom(
        address account,
        uint256 unlocked,
        uint256 charge,
        address provider,
        address dispatcher,
        uint256 dispatcherShare,
        address royaltyTo,
        uint256 royaltyShare
    ) external onlyMarket {
        if ((unlocked | charge | dispatcherShare | royaltyShare) > type(uint128).max) {
            revert AmountTooLarge();
        }
        uint256 word = _accounts[account];
        // Sums of numbers of 128 bits.
        unchecked {
            uint256 available = uint128(word) + unlocked;
            if (available < charge) revert InsufficientAvailable(uint128(charge), uint128(available));
            available -= charge;
            if (available > type(uint128).max) revert AmountTooLarge();
            if (word >> 128 < unlocked) revert InsufficientLocked(uint128(unlocked), uint128(word >> 128));
            _accounts[account] = (((word >> 128) - unlocked) << 128) | available;

            uint256 shares = dispatcherShare + royaltyShare;
            if (shares > charge) revert SharesAboveCharge(charge, shares);
            _addCredit(provider, charge - shares);
        }
        if (dispatcherShare != 0) _addCredit(dispatcher, dispatcherShare);
        if (royaltyShare != 0) _addCredit(royaltyTo, royaltyShare);
    }

    // ------------------------------------------------------------------ reading

    /// @inheritdoc IComputeEscrow
    function accountOf(address account) external view returns (uint128 available, uint128 locked) {
        return _halves(_accounts[account]);
    }

    /// @inheritdoc IComputeEscrow
    function payeeOf(address payee) external view returns (uint128 credit, uint128 fees) {
        return _halves(_payees[payee]);
    }

    /// @inheritdoc IComputeEscrow
    function payoutAddressOf(address payee) public view returns (address) {
        address payout = _payoutAddresses[payee];
        return payout == address(0) ? payee : payout;
    }

    /// @inheritdoc IComputeEscrow
    function channelOf(bytes32 channelId) external view returns (uint128 deposited, uint128 claimed, uint64 closeAt) {
        (deposited, claimed) = _halves(_channels[channelId]);
        closeAt = _closeAts[channelId];
    }

    /// @inheritdoc IComputeEscrow
    function channelIdOf(Channel calldata channel) external pure returns (bytes32) {
        return channel.id();
    }

    /// @inheritdoc IComputeEscrow
    function redeemable(address provider, Row[] calldata rows) external view returns (uint128[] memory amounts) {
        bytes32 separator = domainSeparator();
        bytes32[] memory channelIds = new bytes32[](rows.length);
        amounts = new uint128[](rows.length);
        for (uint256 i; i < rows.length; ++i) {
            (bytes32 channelId, uint256 word,, uint256 reach) = _readRow(separator, provider, rows[i]);
            channelIds[i] = channelId;
            uint256 claimed = word >> 128;
            for (uint256 before; before < i; ++before) {
                if (channelIds[before] == channelId) claimed += amounts[before];
            }
            // Safe cast: within what was deposited.
            if (reach > claimed) amounts[i] = uint128(reach - claimed);
        }
    }

    /// @inheritdoc IComputeEscrow
    function allowanceOf(address payer, bytes32 allowance) external view returns (uint128 spent, bool revoked) {
        uint256 word = _allowances[payer][allowance];
        // Safe cast: the low half.
        return (uint128(word), word & REVOKED != 0);
    }

    /// @inheritdoc IComputeEscrow
    function channelAuthorizationNonce(bytes32 channelId, bytes32 salt) public pure returns (bytes32) {
        return keccak256(abi.encode(channelId, salt));
    }

    /// @inheritdoc IComputeEscrow
    function digestOfVoucher(Voucher calldata voucher) external view returns (bytes32) {
        return
            _digest(
                MessageHash.hashVoucher(voucher.payer, voucher.provider, voucher.salt, voucher.total, voucher.receipt)
            );
    }

    /// @inheritdoc IComputeEscrow
    function digestOfChannelAllowance(ChannelAllowance calldata allowance) external view returns (bytes32) {
        return _digest(allowance.hash());
    }

    /// @inheritdoc IComputeEscrow
    function authorizationNonce(address to, bytes32 salt) public pure returns (bytes32) {
        return keccak256(abi.encode(to, salt));
    }

    /// @inheritdoc IComputeEscrow
    function token() external view returns (address) {
        return address(_token);
    }

    // ------------------------------------------------------------------ private

    function _deposit(address to, uint128 amount) private {
        _checkDeposit(to, amount);
        _requireExact(amount, _token.pull(msg.sender, amount));
        _addAvailable(to, msg.sender, amount);
    }

    function _depositToChannel(Channel calldata channel, uint128 amount) private {
        _checkChannelDeposit(channel, amount);
        _requireExact(amount, _token.pull(msg.sender, amount));
        _addDeposited(channel, msg.sender, amount);
    }

    function _pullAuthorized(
        address from,
        uint128 amount,
        uint256 validAfter,
        uint256 validBefore,
        bytes32 nonce,
        uint8 v,
        bytes32 r,
        bytes32 s
    ) private {
        uint256 before = _token.balanceOf(address(this));
        IERC3009(address(_token))
            .receiveWithAuthorization(from, address(this), amount, validAfter, validBefore, nonce, v, r, s);
        _requireExact(amount, _token.receivedSince(before));
    }

    function _requireExact(uint128 amount, uint256 received) private pure {
        if (received != amount) revert DepositNotExact(amount, received);
    }

    function _addAvailable(address to, address payer, uint128 amount) private {
        _creditAvailable(to, amount);
        emit Deposited(to, payer, amount);
    }

    function _creditAvailable(address account, uint128 amount) private {
        (uint128 available, uint128 locked) = _halves(_accounts[account]);
        // Checked: a token with more than 2^128 units cannot wrap an account.
        _accounts[account] = _word(available + amount, locked);
    }

    function _addDeposited(Channel calldata channel, address from, uint128 amount) private {
        bytes32 channelId = channel.id();
        uint128 deposited = _raiseDeposited(channelId, amount);
        emit ChannelDeposited(
            channelId, channel.payer, channel.provider, channel.signer, channel.salt, from, amount, deposited
        );
    }

    function _fund(address payer, address signer, address provider, uint96 salt, uint128 amount)
        private
        returns (bytes32 channelId)
    {
        (uint128 available, uint128 locked) = _halves(_accounts[payer]);
        _accounts[payer] = _word(_availableLess(available, amount), locked);
        channelId = Channels.idOf(payer, signer, provider, salt);
        uint128 deposited = _raiseDeposited(channelId, amount);
        emit ChannelFunded(channelId, payer, provider, signer, salt, amount, deposited);
    }

    function _raiseDeposited(bytes32 channelId, uint128 amount) private returns (uint128 deposited) {
        uint128 claimed;
        (deposited, claimed) = _halves(_channels[channelId]);
        // Checked, as above.
        deposited += amount;
        _channels[channelId] = _word(deposited, claimed);
    }

    /// @dev Pays out of channels; where to, the caller says.
    function _redeem(address provider, Row[] calldata rows) private returns (uint256 sum) {
        bytes32 separator = domainSeparator();
        for (uint256 i; i < rows.length; ++i) {
            Row calldata row = rows[i];
            (bytes32 channelId, uint256 word, address payer, uint256 reach) = _readRow(separator, provider, row);
            uint256 claimed = word >> 128;
            if (reach <= claimed) continue;
            // Just compared. A sum of amounts of 128 bits; `reach` takes the place of what was claimed, in the high half.
            unchecked {
                uint256 amount = reach - claimed;
                sum += amount;
                _channels[channelId] = uint128(word) | (reach << 128);
                // Safe casts: within what was deposited.
                emit VoucherRedeemed(channelId, payer, provider, uint128(amount), uint128(reach), row.receipt);
            }
        }
    }

    /// @return channelId The channel of whoever signed the row; of the zero address if nobody did, which has no deposit.
    /// @return word The channel's.
    /// @return payer As the row names it.
    /// @return reach min(deposited, total): what should be claimed after it.
    function _readRow(bytes32 separator, address provider, Row calldata row)
        private
        view
        returns (bytes32 channelId, uint256 word, address payer, uint256 reach)
    {
        uint256 salt;
        (payer, salt) = Channels.split(row.payerAndSalt);
        uint256 total = row.readTotal();
        bytes32 digest = _digestUnder(separator, MessageHash.hashVoucher(payer, provider, salt, total, row.receipt));
        channelId = Channels.idOf(payer, Signatures.recover(digest, row.r, row.vs), provider, salt);
        word = _channels[channelId];
        // Safe cast: the low half.
        reach = uint128(word);
        if (total < reach) reach = total;
        else if (total > type(uint128).max) reach = 0;
    }

    /// @dev ECDSA first: code put on an account later voids nothing it signed.
    function _checkAllowanceSignature(address payer, bytes32 digest, bytes calldata signature) private view {
        address signer = Signatures.recover(digest, signature);
        if (signer != address(0) && signer == payer) return;
        if (Signatures.approvedByContract(payer, digest, signature)) return;
        revert InvalidAllowanceSignature(payer, signer);
    }

    function _checkPayer(Channel calldata channel) private view {
        if (msg.sender != channel.payer) revert OnlyPayer(channel.payer, msg.sender);
    }

    /// @dev Money of a channel goes to its provider or back to its payer. No signature is the zero address's: what nobody
    /// can sign for is refused here, and with it any deposit that a row without a signature could find.
    function _checkChannelDeposit(Channel calldata channel, uint128 amount) private view {
        if (amount == 0) revert ZeroAmount();
        _checkRecipient(channel.payer);
        _checkRecipient(channel.provider);
        if (channel.signer == address(0)) revert ChannelWithoutSigner();
    }

    function _checkDeposit(address to, uint128 amount) private view {
        if (amount == 0) revert ZeroAmount();
        _checkRecipient(to);
    }

    /// @dev Money of the zero address or of the escrow itself could never leave.
    function _checkRecipient(address to) private view {
        if (to == address(0) || to == address(this)) revert InvalidRecipient(to);
    }

    function _addCredit(address payee, uint256 amount) private {
        uint256 word = _payees[payee];
        // The low half must not run over into the fees; amounts are of 128 bits.
        unchecked {
            if (uint128(word) + amount > type(uint128).max) revert AmountTooLarge();
            _payees[payee] = word + amount;
        }
    }

    function _availableLess(uint128 available, uint128 amount) private pure returns (uint128) {
        if (available < amount) revert InsufficientAvailable(amount, available);
        // Just compared.
        unchecked {
            return available - amount;
        }
    }

    function _lockedLess(uint128 locked, uint128 amount) private pure returns (uint128) {
        if (locked < amount) revert InsufficientLocked(amount, locked);
        // Just compared.
        unchecked {
            return locked - amount;
        }
    }

    function _halves(uint256 word) private pure returns (uint128 low, uint128 high) {
        // Safe casts: each keeps exactly its own half.
        return (uint128(word), uint128(word >> 128));
    }

    function _word(uint128 low, uint128 high) private pure returns (uint256) {
        return uint256(low) | (uint256(high) << 128);
    }
}
