// The vectors come from the Python kernel (tools/dapp_vectors.py): both sides must come to the same bytes.

import { readDeployment } from '~/lib/deployment';
import type { Schemas } from '~/lib/api';
import raw from './vectors.json';

export const vectors = raw as unknown as Omit<
  typeof raw,
  'terms' | 'receipt' | 'manifest' | 'channel' | 'usage'
> & {
  terms: Schemas['TaskTermsBody-Output'];
  receipt: Schemas['ReceiptBody'];
  manifest: Schemas['Manifest'];
  channel: Schemas['ChannelBody'];
  usage: Schemas['UsageSampleBody'][];
};

const token = {
  address: '0x5FbDB2315678afecb367f032d93F642f64180aa3',
  symbol: 'TALLY',
  decimals: 18,
  name: 'Tally',
  version: '1',
};

export const deployment = readDeployment({
  version: '0',
  chain_id: 31337,
  network_name: 'Local',
  rpc_url: '',
  explorer_url: '',
  token,
  staking_token: token,
  escrow: '0xe7f1725E7734CE288F8367e1Bb143E90bb3F0512',
  market: '0xCf7Ed3AccA5a467e9e704C703E8D87F634fB0Fc9',
  staking: '0x9fE46736679d2D9a65F0992F2272dE9f3c7fa6e0',
  court: '0xDc64a140Aa3E981100a9becA4E685f962f0cF6C9',
  registry: '0x5FC8d32690cc91D4c39d9d3abcBD16989F875707',
  treasury: '0x70997970C51812dc3A010C7d01b50e0d17dc79C8',
  start_block: 0,
  dispatcher: '0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC',
  dispatcher_bps: 500,
  challenge_window_seconds: 86400,
  protocol_fee_bps: 0,
  stake_unit: '100',
  unbonding_seconds: 1,
  close_seconds: 1,
  cancel_seconds: 1,
  commission_notice_seconds: 1,
  jail_seconds: 1,
  notice_seconds: 1,
});
