// Money on its way out of the staking contract: how much, until when, and the button once it may leave.

import type { Request } from '~/lib/chain/staking';
import type { Write } from '~/lib/chain/writes';
import { useStakingToken } from '~/lib/deployment';
import { useT } from '~/lib/i18n';
import { shownSeconds } from '~/lib/time';
import { Empty, Table, TableCard, Tag } from './parts';
import { TransactionButton } from './transaction';
import { Amount, Moment } from './values';

export function Requests<One extends Request>(props: {
  title: string;
  none: string;
  noneText: string;
  requests: readonly One[];
  /** The chain's clock: it decides, not this machine's. */
  now: number;
  withdraw: (request: One) => Write;
}) {
  const t = useT();
  const token = useStakingToken();
  return (
    <TableCard title={props.title}>
      {props.requests.length === 0 ? (
        <Empty title={props.none}>{props.noneText}</Empty>
      ) : (
        <Table
          caption={props.title}
          rows={props.requests}
          rowKey={(one) => one.id.toString()}
          columns={[
            { key: 'id', head: t('requests.id'), cell: (one) => one.id.toString() },
            {
              key: 'amount',
              head: t('money.amount'),
              number: true,
              cell: (one) => <Amount units={one.amount} token={token} />,
            },
            {
              key: 'from',
              head: t('requests.from'),
              cell: (one) => <Moment ms={one.withdrawableAt * 1000} />,
            },
            {
              key: 'act',
              head: t('keys.act'),
              cell: (one) =>
                props.now < one.withdrawableAt ? (
                  <Tag tone="busy">
                    {t('requests.waits', { time: shownSeconds(one.withdrawableAt - props.now) })}
                  </Tag>
                ) : (
                  <TransactionButton prepare={() => Promise.resolve(props.withdraw(one))}>
                    {t('requests.withdraw')}
                  </TransactionButton>
                ),
            },
          ]}
        />
      )}
    </TableCard>
  );
}
