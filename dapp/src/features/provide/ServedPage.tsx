import { NeedsLogIn } from '~/app/gates';
import { Asked } from '~/components/asking';
import { Empty, Figure, Table, TableCard, Tag, type Tone } from '~/components/parts';
import { Amount, Hex, Moment, TransactionLink } from '~/components/values';
import type { Schemas } from '~/lib/api';
import { useT, type Translate } from '~/lib/i18n';
import { shownMs } from '~/lib/time';
import { ProvideFrame } from './frame';
import { useServing } from './standing';

type Served = Schemas['ServingTask'];
const IN_HAND: ReadonlySet<string> = new Set(['offered', 'accepted', 'running']);

export function ServedPage() {
  const t = useT();
  return (
    <ProvideFrame title={t('served.title')} lead={t('served.lead')}>
      <NeedsLogIn why={t('served.why')}>
        <Tasks />
      </NeedsLogIn>
    </ProvideFrame>
  );
}

function Tasks() {
  const t = useT();
  const serving = useServing();
  return (
    <Asked query={serving}>
      {({ tasks }) => {
        const inHand = tasks.filter((task) => IN_HAND.has(task.state));
        const over = tasks.filter((task) => !IN_HAND.has(task.state));
        const paid = over.filter((task) => task.chain_state === 'settled');
        const sum = paid.reduce((total, task) => total + BigInt(task.charge ?? '0'), 0n);
        return (
          <>
            <dl className="figures">
              <Figure name={t('served.inHand')}>{inHand.length}</Figure>
              <Figure name={t('served.over')} note={t('served.overNote')}>
                {over.length}
              </Figure>
              <Figure name={t('served.paid')} note={t('served.paidNote')}>
                <Amount units={sum} />
              </Figure>
            </dl>
            <TableCard title={t('served.inHand')}>
              {inHand.length === 0 ? (
                <Empty title={t('served.idle')}>{t('served.idleText')}</Empty>
              ) : (
                <ServedTable caption={t('served.inHand')} tasks={inHand} />
              )}
            </TableCard>
            <TableCard title={t('served.over')}>
              {over.length === 0 ? (
                <Empty title={t('served.none')}>{t('served.noneText')}</Empty>
              ) : (
                <ServedTable caption={t('served.over')} tasks={over} />
              )}
            </TableCard>
          </>
        );
      }}
    </Asked>
  );
}

function ServedTable({ caption, tasks }: { caption: string; tasks: readonly Served[] }) {
  const t = useT();
  return (
    <Table
      caption={caption}
      rows={tasks}
      rowKey={(task) => `${task.task_id}/${task.fence.toString()}`}
      columns={[
        { key: 'task', head: t('served.task'), cell: (task) => <Hex value={task.task_id} /> },
        {
          key: 'state',
          head: t('state'),
          cell: (task) => <Tag tone={toneOf(task)}>{stateText(task, t)}</Tag>,
        },
        {
          key: 'gpus',
          head: t('task.gpus'),
          cell: (task) => (task.gpus === 0 ? t('task.noGpu') : `${task.gpus.toString()} × ${task.gpu_class}`),
        },
        {
          key: 'time',
          head: t('receipt.gpuTime'),
          number: true,
          cell: (task) => shownMs(task.gpu_ms),
        },
        {
          key: 'pay',
          head: t('served.charge'),
          number: true,
          cell: (task) =>
            task.charge === null ? <span className="soft">–</span> : <Amount units={BigInt(task.charge)} />,
        },
        {
          key: 'tx',
          head: t('task.settledTx'),
          cell: (task) =>
            task.settled_tx === null ? (
              <span className="soft">–</span>
            ) : (
              <TransactionLink hash={task.settled_tx} />
            ),
        },
        { key: 'when', head: t('served.from'), cell: (task) => <Moment ms={task.lease_from * 1000} /> },
      ]}
    />
  );
}

function toneOf(task: Served): Tone {
  if (task.chain_state === 'settled') return 'good';
  if (IN_HAND.has(task.state)) return 'busy';
  return task.state === 'finished' || task.state === 'done' ? 'plain' : 'bad';
}

function stateText(task: Served, t: Translate): string {
  if (task.chain_state === 'settled') return t('task.state.settled');
  switch (task.state) {
    case 'running':
      return task.percent === null
        ? t('task.state.running')
        : `${t('task.state.running')} · ${task.percent.toString()} %`;
    case 'offered':
    case 'accepted':
      return t('task.state.leased');
    case 'finished':
    case 'done':
      return t('served.unpaid');
    case 'declined':
      return t('served.declined');
    case 'lost':
      return t('served.lost');
    case 'stopped':
      return t('served.stopped');
    default:
      return t('task.state.failed');
  }
}
