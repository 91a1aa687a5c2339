// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Model} from "../acts/Model.sol";
import {Law} from "./Law.sol";

/// @notice L11: a stale lease changes nothing and earns nothing (case 29): a proof alone that arrives after its lease, or
/// for work begun before it, is refused and leaves every book as it was.
contract L11Lease is Law {
    function invariant_L11_lease() external view {
        checkEqual(0, stage.staleLeasesPaid(), "L11: stale leases that were paid");
        holds(Model.Law.Lease);
    }
}
