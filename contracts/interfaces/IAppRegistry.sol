// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @title The registry: what can be called, at what price
/// @notice Apps, their versions, their prices now and at any time before. Holds no money and commands nobody: a quote is
/// what both sides of a call check a receipt against before they sign.
/// @dev An app is its publisher's and cannot be handed on. What a publisher announces it cannot take back: a quote for a
/// time up to now never changes, and a quote for less than `noticeSeconds` ahead never rises and never goes away.
/// What an app needs (GPUs, memory, network) is in its manifest, which `manifestDigest` covers. Sponsored calls need
/// nothing here: a sponsor's `ChannelAllowance` in the escrow names the appId as its purpose. The dispatcher's and the
/// publisher's share of a task are in its terms; on calls they are channels of their own.
/// Warning: a manifest URI is its publisher's text, to be shown and fetched with care; only the digest says whether what
/// was found there is the manifest.
interface IAppRegistry {
    // ------------------------------------------------------------------ types

    /// @notice What one call or task costs, in the smallest unit of the deployment's payment token:
    /// flat + feePerCall * calls + ratePerGpuSecond * gpuMs / 1000, the last rounded up.
    struct Price {
        uint128 flat;
        uint128 feePerCall;
        uint128 ratePerGpuSecond;
    }

    /// @notice `retiredAt` is the first second without a quote, zero if none is announced. A `permanent` app has been
    /// renounced. `pricesSettleAt`: no price of any version changes from then on unless another change is announced.
    struct App {
        address publisher;
        uint32 versions;
        uint64 retiredAt;
        address royaltyTo;
        uint16 royaltyBps;
        uint64 pricesSettleAt;
        bool permanent;
    }

    // ------------------------------------------------------------------ events

    /// @notice A new app; its first version follows in `VersionAdded`. The royalty never changes.
    event AppPublished(
        bytes32 indexed appId, address indexed publisher, bytes32 salt, address royaltyTo, uint16 royaltyBps
    );

    /// @notice Versions count from 1. `price` holds from this block on; other versions stay as they are.
    event VersionAdded(
        bytes32 indexed appId,
        uint32 indexed version,
        bytes32 imageDigest,
        bytes32 manifestDigest,
        string manifestURI,
        Price price
    );

    /// @notice `price` holds from `takesEffectAt` on, until a later announcement takes effect.
    event PriceAnnounced(bytes32 indexed appId, uint32 indexed version, Price price, uint64 takesEffectAt);

    /// @notice Every price of the app falls by `bps` from `start` to `end`, both included. From `start` on this takes the
    /// place of what was announced before.
    event DiscountAnnounced(bytes32 indexed appId, uint16 bps, uint64 start, uint64 end);

    /// @notice No quotes from `retiredAt` on.
    event AppRetired(bytes32 indexed appId, uint64 retiredAt);

    /// @notice Nobody can change or stop the app any more.
    event AppRenounced(bytes32 indexed appId);

    // ------------------------------------------------------------------ errors: expected first, actual second

    error UnknownApp(bytes32 appId);
    /// @dev Versions count from 1 to `latest`.
    error UnknownVersion(uint32 latest, uint32 actual);
    error AppExists(bytes32 appId);
    error OnlyPublisher(address expected, address actual);
    error AppIsPermanent(bytes32 appId);
    error AppIsRetired(uint64 retiredAt, uint256 actual);
    error NotPublishedYet(uint64 publishedAt, uint256 actual);
    error PriceChangePending(uint64 settledAt, uint256 actual);
    error SharesTooHigh(uint256 limitBps, uint256 actualBps);
    error ShareWithoutPayee(uint256 shareBps);
    error DiscountOutOfRange(uint256 limitBps, uint256 actualBps);
    error DiscountTooSoon(uint64 earliest, uint64 actual);
    error DiscountEndsBeforeStart(uint64 start, uint64 end);
    error DiscountTooLate(uint64 latest, uint64 actual);
    /// @dev The discount that was announced: at least so many bps, from no later, until no earlier.
    error DiscountReduced(uint16 bps, uint64 start, uint64 end);
    error URILengthOutOfRange(uint256 shortest, uint256 longest, uint256 actual);
    error NoticeOutOfRange(uint32 shortest, uint32 longest, uint32 actual);
    error ZeroDigest();

    // ------------------------------------------------------------------ publishing

    /// @notice Publish an app under the caller's name, with its first version.
    /// @param salt Any value that the caller has not used before.
    /// @param imageDigest Of the container image.
    /// @param manifestDigest Of the manifest: command, GPUs, resources, network policy.
    /// @param manifestURI Where the manifest can be found; 1 to 512 bytes.
    /// @param price Of the first version, from now on.
    /// @param royaltyTo Receives the publisher's share; may be zero if that is.
    /// @param royaltyBps At most 3,000. Warning: together with the dispatcher's share a task takes 3,000 at most.
    /// @return appId See `appIdOf`. Nobody but the caller can take it.
    function publish(
        bytes32 salt,
        bytes32 imageDigest,
        bytes32 manifestDigest,
        string calldata manifestURI,
        Price calldata price,
        address royaltyTo,
        uint16 royaltyBps
    ) external returns (bytes32 appId);

    /// @notice Publisher only: add a version with a price of its own, from now on. Earlier versions stay as they are.
    /// @return version Counts from 1.
    function addVersion(
        bytes32 appId,
        bytes32 imageDigest,
        bytes32 manifestDigest,
        string calldata manifestURI,
        Price calldata price
    ) external returns (uint32 version);

    // ------------------------------------------------------------------ changing the price

    /// @notice Publisher only: `price` holds for this version once `noticeSeconds` have passed, up or down.
    /// @dev Announced prices take effect one after the other, each at its own time; none can be withdrawn. Two announced
    /// in the same second follow each other by a second.
    /// @return takesEffectAt First second at which it holds.
    function setPrice(bytes32 appId, uint32 version, Price calldata price) external returns (uint64 takesEffectAt);

    /// @notice Publisher only: every version costs `bps` less from `start` to `end`, both included; 10,000 is free.
    /// @dev One at a time. Until it has ended another may only better it: `bps` and `end` no lower, `start` no later. If it
    /// has begun, what is new holds from the next second on, whatever `start` says. A discount begins in the next second at
    /// the earliest, so that no quote up to now changes, and ends within 366 days. Warning: it comes off the price of the
    /// day, which may rise after its notice.
    function setDiscount(bytes32 appId, uint16 bps, uint64 start, uint64 end) external;

    // ------------------------------------------------------------------ ending

    /// @notice Publisher only: no quotes once `noticeSeconds` have passed. There is no way back, and nothing of the app
    /// can be changed meanwhile.
    /// @return retiredAt First second without a quote.
    function retire(bytes32 appId) external returns (uint64 retiredAt);

    /// @notice Publisher only: the app stays as it is for ever. Refused for one that is retired, and while an announced
    /// price change has not taken effect; a discount runs to its end.
    function renounce(bytes32 appId) external;

    // ------------------------------------------------------------------ reading

    /// @notice The quote that everybody uses, the discount taken off each part and rounded up. For a call `time` is its
    /// receipt's startedAtMs in whole seconds, rounded down. Any time since the version was published; of times to come,
    /// as far as announced.
    function priceAt(bytes32 appId, uint32 version, uint64 time) external view returns (Price memory);

    /// @notice The discount at a time, in basis points; zero if there is none.
    function discountAt(bytes32 appId, uint64 time) external view returns (uint16 bps);

    /// @notice The discount announced last; zeros if there never was one.
    function discountOf(bytes32 appId) external view returns (uint16 bps, uint64 start, uint64 end);

    /// @notice Zeros if nothing is published under this id.
    function appOf(bytes32 appId) external view returns (App memory);

    function versionOf(bytes32 appId, uint32 version)
        external
        view
        returns (bytes32 imageDigest, bytes32 manifestDigest, uint64 publishedAt);

    /// @notice keccak256(abi.encode(chain id, this contract, publisher, salt)).
    function appIdOf(address publisher, bytes32 salt) external view returns (bytes32);

    /// @notice How long before it takes effect a price change or a retirement is announced.
    function noticeSeconds() external view returns (uint32);
}
