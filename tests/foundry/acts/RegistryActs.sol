// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IAppRegistry} from "../../../contracts/interfaces/IAppRegistry.sol";
import {vm} from "../base/Vm.sol";
import {CourtActs} from "./CourtActs.sol";

/// @notice Publishers publish, change prices with notice, discount, retire; strangers try.
abstract contract RegistryActs is CourtActs {
    struct Quote {
        bytes32 appId;
        uint32 version;
        uint64 time;
        bytes32 price;
    }

    struct Publication {
        bytes32 id;
        address publisher;
        uint32 versions;
        bool renounced;
        bool retired;
    }

    Publication[] internal apps;
    Quote[] internal quotes;

    function registry_publish(uint256 seed) external {
        address publisher = person(seed);
        bytes32 salt = bytes32(apps.length == 0 || seed % 8 != 0 ? seed : uint256(apps[0].id));
        uint16 royaltyBps = uint16((seed >> 20) % 3200);
        address royaltyTo = seed % 16 == 1 ? address(0) : appOwner;
        bytes32 id = registry.appIdOf(publisher, salt);
        bool good = royaltyBps <= 3000 && (royaltyBps == 0 || royaltyTo != address(0)) && !_exists(id);
        bytes memory data = abi.encodeCall(
            IAppRegistry.publish,
            (salt, bytes32(seed | 1), bytes32(seed | 1), "ipfs://manifest", _price(seed), royaltyTo, royaltyBps)
        );
        (bool done,) = attempt(publisher, address(registry), data, good, Law.Terms, "publish");
        if (done) apps.push(Publication(id, publisher, 1, false, false));
    }

    function registry_addVersion(uint256 seed) external {
        Publication storage app = _app(seed);
        (address from, bool may) = _mayChange(app, seed);
        bytes memory data = abi.encodeCall(
            IAppRegistry.addVersion, (app.id, bytes32(seed | 1), bytes32(seed | 1), "ipfs://other", _price(seed))
        );
        (bool done,) = attempt(from, address(registry), data, may, Law.Terms, "addVersion");
        if (done) ++app.versions;
    }

    function registry_setPrice(uint256 seed) external {
        Publication storage app = _app(seed);
        (address from, bool may) = _mayChange(app, seed);
        uint32 version = 1 + uint32((seed >> 40) % app.versions);
        if (seed % 16 == 6) (version, may) = (app.versions + 1, false);
        _quote(app, version);
        bytes memory data = abi.encodeCall(IAppRegistry.setPrice, (app.id, version, _price(seed)));
        attempt(from, address(registry), data, may, Law.Terms, "setPrice");
    }

    function registry_setDiscount(uint256 seed) external {
        Publication storage app = _app(seed);
        (address from, bool may) = _mayChange(app, seed);
        uint64 start = uint64(block.timestamp + 1 + (seed >> 60) % 1 days);
        uint64 end = uint64(start + (seed >> 80) % 10 days);
        uint16 bps = uint16(1 + (seed >> 100) % 10_000);
        (uint16 lastBps, uint64 lastStart, uint64 lastEnd) = registry.discountOf(app.id);
        // Once announced it only grows.
        bool smaller = block.timestamp <= lastEnd && (bps < lastBps || start > lastStart || end < lastEnd);
        if (block.timestamp <= lastEnd && seed % 2 == 0) {
            (bps, start, end) = (10_000, lastStart, lastEnd + 1);
            smaller = false;
        }
        bytes memory data = abi.encodeCall(IAppRegistry.setDiscount, (app.id, bps, start, end));
        attempt(from, address(registry), data, may && !smaller, Law.Terms, "setDiscount");
    }

    function registry_retire(uint256 seed) external {
        Publication storage app = _app(seed);
        (address from, bool may) = _mayChange(app, seed);
        (bool done,) =
            attempt(from, address(registry), abi.encodeCall(IAppRegistry.retire, (app.id)), may, Law.Terms, "retire");
        if (done) app.retired = true;
    }

    function registry_renounce(uint256 seed) external {
        Publication storage app = _app(seed);
        (address from, bool may) = _mayChange(app, seed);
        bytes memory data = abi.encodeCall(IAppRegistry.renounce, (app.id));
        // Refused also while a price is on its way.
        bool done = _maybeRegistry(from, data, may);
        if (done) app.renounced = true;
    }

    /// @notice Whether every quote of the past is what it was (case 19).
    function quotesStand() external view returns (bool) {
        uint256 total = quotes.length;
        for (uint256 i = total > 3 ? total - 3 : 0; i < total; ++i) {
            if (!_stands(quotes[i])) return false;
        }
        return total == 0 || _stands(quotes[block.number % total]);
    }

    function _stands(Quote storage quote) private view returns (bool) {
        return keccak256(abi.encode(registry.priceAt(quote.appId, quote.version, quote.time))) == quote.price;
    }

    /// @dev A quote for now and one for the end of the notice: neither may ever change but by a discount, which comes later.
    function _quote(Publication storage app, uint32 version) private {
        uint64 time = uint64(block.timestamp);
        bytes32 price = keccak256(abi.encode(registry.priceAt(app.id, version, time)));
        quotes.push(Quote(app.id, version, time, price));
    }

    function _maybeRegistry(address from, bytes memory data, bool may) private returns (bool done) {
        vm.prank(from);
        // solhint-disable-next-line avoid-low-level-calls
        (done,) = address(registry).call(data);
        if (done && !may) violate(Law.Terms, "renounce");
        if (!done) revert Refused("renounce");
    }

    function _mayChange(Publication storage app, uint256 seed) private view returns (address from, bool may) {
        from = seed % 8 == 0 ? stranger : app.publisher;
        may = from == app.publisher && !app.renounced && !app.retired;
    }

    /// @dev Mostly one that may change still; published if there is none.
    function _app(uint256 seed) private returns (Publication storage app) {
        for (uint256 i; i < apps.length; ++i) {
            app = apps[((seed >> 8) + i) % apps.length];
            if (!app.renounced && !app.retired || seed % 8 == 1) return app;
        }
        address publisher = people[(seed >> 8) % people.length];
        vm.prank(publisher);
        bytes32 id = registry.publish(
            bytes32(seed), bytes32(seed | 1), bytes32(seed | 1), "ipfs://new", _price(seed), appOwner, 0
        );
        apps.push(Publication(id, publisher, 1, false, false));
        return apps[apps.length - 1];
    }

    function _exists(bytes32 id) private view returns (bool) {
        for (uint256 i; i < apps.length; ++i) {
            if (apps[i].id == id) return true;
        }
        return false;
    }

    function _price(uint256 seed) private pure returns (IAppRegistry.Price memory) {
        return IAppRegistry.Price(uint128(mix(seed, 1)), uint128(mix(seed, 2)), uint128(mix(seed, 3)));
    }
}
