import type { Tone } from '~/components/parts';

export const KINDS = [
  'task',
  'redemption',
  'stake',
  'slash',
  'dispute',
  'delegation',
  'channel',
  'money',
  'app',
] as const;
export type Kind = (typeof KINDS)[number];

export function toneOfKind(kind: string): Tone {
  if (kind === 'slash' || kind === 'dispute') return 'bad';
  if (kind === 'task' || kind === 'redemption') return 'good';
  return kind === 'stake' || kind === 'delegation' ? 'busy' : 'plain';
}

/** Events that have words of their own in the catalogue. */
export const EVENT_NAMES = [
  'TaskCreated',
  'TaskSettled',
  'TaskProven',
  'TaskCancelled',
  'TaskRefunded',
  'TaskDisputed',
  'DisputeResolved',
  'DisputeConcluded',
  'TwoHistoriesShown',
  'GpuSoldTwiceShown',
  'DrawCalled',
  'CheckersDrawn',
  'VoteCommitted',
  'VoteRevealed',
  'SilenceShown',
  'SeatTaken',
  'SeatListed',
  'SeatLeaving',
  'SeatFreed',
  'VoucherRedeemed',
  'CreditWithdrawn',
  'Deposited',
  'Withdrawn',
  'ChannelFunded',
  'ChannelDeposited',
  'ChannelClosed',
  'ChannelReleased',
  'CloseRequested',
  'AllowanceUsed',
  'AllowanceRevoked',
  'Staked',
  'GpusRegistered',
  'OperatorKeyBound',
  'AppPublished',
  'VersionAdded',
  'PriceAnnounced',
  'DiscountAnnounced',
  'Slashed',
  'Delegated',
  'UndelegateRequested',
  'DelegationWithdrawn',
  'CommissionSet',
  'FeesAdded',
  'RewardsClaimed',
  'FeesWithdrawn',
  'UnbondRequested',
  'StakeWithdrawn',
  'OperatorKeyRetired',
  'Jailed',
  'Unjailed',
] as const;
