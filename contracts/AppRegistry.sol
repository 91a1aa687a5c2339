// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IAppRegistry} from "./interfaces/IAppRegistry.sol";
import {CallPricing} from "./libraries/CallPricing.sol";

/// @title The registry: what can be called, at what price
/// @dev Invariant: prices and discounts are written for times to come only, so `priceAt` of a time up to now answers the
/// same for ever. Calls no other contract.
contract AppRegistry is IAppRegistry {
    /// @dev Two slots.
    struct PricePoint {
        uint128 flat;
        uint128 feePerCall;
        uint128 ratePerGpuSecond;
        uint64 from;
    }

    struct Version {
        bytes32 imageDigest;
        bytes32 manifestDigest;
        PricePoint[] prices;
    }

    struct DiscountWindow {
        uint64 start;
        uint64 end;
        uint16 bps;
    }

    /// @dev The limit that `TaskMarket` puts on dispatcher and royalty together.
    uint256 private constant SHARE_LIMIT_BPS = 3000;
    uint256 private constant LONGEST_URI = 512;
    uint32 private constant LONGEST_NOTICE = 30 days;
    /// @dev A discount cannot be taken back: an end in milliseconds by mistake would be for ever.
    uint256 private constant DISCOUNT_HORIZON = 366 days;

    /// @inheritdoc IAppRegistry
    uint32 public immutable noticeSeconds;

    mapping(bytes32 appId => App) private _apps;
    mapping(bytes32 appId => mapping(uint32 version => Version)) private _versions;

    /// @dev In the order of time, none reaching into another.
    mapping(bytes32 appId => DiscountWindow[]) private _discounts;

    constructor(uint32 noticeSeconds_) {
        // Without a notice a change would reach quotes of the same second.
        if (noticeSeconds_ == 0 || noticeSeconds_ > LONGEST_NOTICE) {
            revert NoticeOutOfRange(1, LONGEST_NOTICE, noticeSeconds_);
        }
        noticeSeconds = noticeSeconds_;
    }

    // ------------------------------------------------------------------ a publisher publishes

    /// @inheritdoc IAppRegistry
    function publish(
        bytes32 salt,
        bytes32 imageDigest,
        bytes32 manifestDigest,
        string calldata manifestURI,
        Price calldata price,
        address royaltyTo,
        uint16 royaltyBps
    ) external returns (bytes32 appId) {
        if (royaltyBps > SHARE_LIMIT_BPS) revert SharesTooHigh(SHARE_LIMIT_BPS, royaltyBps);
        if (royaltyBps != 0 && royaltyTo == address(0)) revert ShareWithoutPayee(royaltyBps);
        appId = appIdOf(msg.sender, salt);
        App storage app = _apps[appId];
        if (app.publisher != address(0)) revert AppExists(appId);

        app.publisher = msg.sender;
        app.royaltyTo = royaltyTo;
        app.royaltyBps = royaltyBps;
        emit AppPublished(appId, msg.sender, salt, royaltyTo, royaltyBps);
        _addVersion(app, appId, imageDigest, manifestDigest, manifestURI, price);
    }

    /// @inheritdoc IAppRegistry
    function addVersion(
        bytes32 appId,
        bytes32 imageDigest,
        bytes32 manifestDigest,
        string calldata manifestURI,
        Price calldata price
    ) external returns (uint32 version) {
        return _addVersion(_changeable(appId), appId, imageDigest, manifestDigest, manifestURI, price);
    }

    // ------------------------------------------------------------------ a publisher changes the price

    /// @inheritdoc IAppRegistry
    function setPrice(bytes32 appId, uint32 version, Price calldata price) external returns (uint64 takesEffectAt) {
        App storage app = _changeable(appId);
        PricePoint[] storage prices = _knownVersion(app, appId, version).prices;
        takesEffectAt = _afterNotice();
        uint64 last = prices[prices.length - 1].from;
        if (takesEffectAt <= last) takesEffectAt = last + 1;
        prices.push(PricePoint(price.flat, price.feePerCall, price.ratePerGpuSecond, takesEffectAt));
        // Another version's announcements of this second may reach a little further.
        if (takesEffectAt > app.pricesSettleAt) app.pricesSettleAt = takesEffectAt;
        emit PriceAnnounced(appId, version, price, takesEffectAt);
    }

    /// @inheritdoc IAppRegistry
    function setDiscount(bytes32 appId, uint16 bps, uint64 start, uint64 end) external {
        _changeable(appId);
        if (bps == 0 || bps > CallPricing.BPS) revert DiscountOutOfRange(CallPricing.BPS, bps);
        // Safe casts: a block's time plus 25 bits of seconds.
        uint64 present = uint64(block.timestamp);
        uint64 latest = uint64(block.timestamp + DISCOUNT_HORIZON);
        if (end > latest) revert DiscountTooLate(latest, end);

        DiscountWindow[] storage windows = _discounts[appId];
        if (windows.length != 0) {
            DiscountWindow storage last = windows[windows.length - 1];
            if (present <= last.end) {
                if (bps < last.bps || start > last.start || end < last.end) {
                    revert DiscountReduced(last.bps, last.start, last.end);
                }
                if (last.start > present) {
                    windows.pop();
                } else {
                    // What has been stays; the rest of it is what is pushed now.
                    last.end = present;
                    start = present + 1;
                }
            }
        }
        if (start <= present) revert DiscountTooSoon(present + 1, start);
        if (end < start) revert DiscountEndsBeforeStart(start, end);
        windows.push(DiscountWindow(start, end, bps));
        emit DiscountAnnounced(appId, bps, start, end);
    }

    // ------------------------------------------------------------------ a publisher ends what it may change

    /// @inheritdoc IAppRegistry
    function retire(bytes32 appId) external returns (uint64 retiredAt) {
        App storage app = _changeable(appId);
        retiredAt = _afterNotice();
        app.retiredAt = retiredAt;
        emit AppRetired(appId, retiredAt);
    }

    /// @inheritdoc IAppRegistry
    function renounce(bytes32 appId) external {
        App storage app = _changeable(appId);
        if (block.timestamp < app.pricesSettleAt) revert PriceChangePending(app.pricesSettleAt, block.timestamp);
        app.permanent = true;
        emit AppRenounced(appId);
    }

    // ------------------------------------------------------------------ reading

    /// @inheritdoc IAppRegistry
    function priceAt(bytes32 appId, uint32 version, uint64 time) external view returns (Price memory) {
        App storage app = _known(appId);
        uint64 retiredAt = app.retiredAt;
        if (retiredAt != 0 && time >= retiredAt) revert AppIsRetired(retiredAt, time);
        PricePoint memory point = _pointAt(_knownVersion(app, appId, version).prices, time);
        uint256 bps = _discountAt(appId, time);
        // Safe casts: a discount raises nothing.
        return Price(
            uint128(CallPricing.discountedUp(point.flat, bps)),
            uint128(CallPricing.discountedUp(point.feePerCall, bps)),
            uint128(CallPricing.discountedUp(point.ratePerGpuSecond, bps))
        );
    }

    /// @inheritdoc IAppRegistry
    function discountAt(bytes32 appId, uint64 time) external view returns (uint16 bps) {
        _known(appId);
        return _discountAt(appId, time);
    }

    /// @inheritdoc IAppRegistry
    function discountOf(bytes32 appId) external view returns (uint16 bps, uint64 start, uint64 end) {
        DiscountWindow[] storage windows = _discounts[appId];
        if (windows.length == 0) return (0, 0, 0);
        DiscountWindow memory last = windows[windows.length - 1];
        return (last.bps, last.start, last.end);
    }

    /// @inheritdoc IAppRegistry
    function appOf(bytes32 appId) external view returns (App memory) {
        return _apps[appId];
    }

    /// @inheritdoc IAppRegistry
    function versionOf(bytes32 appId, uint32 version)
        external
        view
        returns (bytes32 imageDigest, bytes32 manifestDigest, uint64 publishedAt)
    {
        Version storage found = _knownVersion(_known(appId), appId, version);
        return (found.imageDigest, found.manifestDigest, found.prices[0].from);
    }

    /// @inheritdoc IAppRegistry
    function appIdOf(address publisher, bytes32 salt) public view returns (bytes32) {
        return keccak256(abi.encode(block.chainid, address(this), publisher, salt));
    }

    // ------------------------------------------------------------------ private

    function _addVersion(
        App storage app,
        bytes32 appId,
        bytes32 imageDigest,
        bytes32 manifestDigest,
        string calldata manifestURI,
        Price calldata price
    ) private returns (uint32 version) {
        if (imageDigest == 0 || manifestDigest == 0) revert ZeroDigest();
        uint256 length = bytes(manifestURI).length;
        if (length == 0 || length > LONGEST_URI) revert URILengthOutOfRange(1, LONGEST_URI, length);
        // Checked: 2^32 versions revert.
        version = app.versions + 1;
        app.versions = version;
        Version storage added = _versions[appId][version];
        added.imageDigest = imageDigest;
        added.manifestDigest = manifestDigest;
        // Safe cast: a block's time.
        added.prices.push(PricePoint(price.flat, price.feePerCall, price.ratePerGpuSecond, uint64(block.timestamp)));
        emit VersionAdded(appId, version, imageDigest, manifestDigest, manifestURI, price);
    }

    function _afterNotice() private view returns (uint64) {
        // Safe cast: a block's time plus 32 bits of seconds.
        return uint64(block.timestamp + noticeSeconds);
    }

    function _known(bytes32 appId) private view returns (App storage app) {
        app = _apps[appId];
        if (app.publisher == address(0)) revert UnknownApp(appId);
    }

    function _changeable(bytes32 appId) private view returns (App storage app) {
        app = _known(appId);
        if (app.publisher != msg.sender) revert OnlyPublisher(app.publisher, msg.sender);
        if (app.permanent) revert AppIsPermanent(appId);
        if (app.retiredAt != 0) revert AppIsRetired(app.retiredAt, block.timestamp);
    }

    function _knownVersion(App storage app, bytes32 appId, uint32 version) private view returns (Version storage) {
        uint32 latest = app.versions;
        if (version == 0 || version > latest) revert UnknownVersion(latest, version);
        return _versions[appId][version];
    }

    /// @dev The last price whose time has come. Halving: a long history costs its own publisher's callers little.
    function _pointAt(PricePoint[] storage points, uint64 time) private view returns (PricePoint memory) {
        if (time < points[0].from) revert NotPublishedYet(points[0].from, time);
        // Always points[low].from <= time; high is the end, or points[high].from > time.
        uint256 low;
        uint256 high = points.length;
        while (high - low > 1) {
            uint256 middle = (low + high) / 2;
            if (points[middle].from <= time) low = middle;
            else high = middle;
        }
        return points[low];
    }

    function _discountAt(bytes32 appId, uint64 time) private view returns (uint16) {
        DiscountWindow[] storage windows = _discounts[appId];
        uint256 low;
        uint256 high = windows.length;
        if (high == 0) return 0;
        // As above, if windows[0] has begun at all.
        while (high - low > 1) {
            uint256 middle = (low + high) / 2;
            if (windows[middle].start <= time) low = middle;
            else high = middle;
        }
        DiscountWindow memory found = windows[low];
        return found.start <= time && time <= found.end ? found.bps : 0;
    }
}
