import { Link } from '@tanstack/react-router';
import { Table, Tag } from '~/components/parts';
import { Amount, Moment, shortHex } from '~/components/values';
import { useT } from '~/lib/i18n';
import { shownSeconds } from '~/lib/time';
import type { Task } from './queries';
import { stateKey, toneOf } from './state';

export function TaskTable({ tasks }: { tasks: readonly Task[] }) {
  const t = useT();
  return (
    <Table
      caption={t('task.tableCaption')}
      rows={tasks}
      rowKey={(task) => task.id}
      columns={[
        {
          key: 'name',
          head: t('task.name'),
          cell: (task) => (
            <Link to="/tasks/$id" params={{ id: task.id }}>
              {task.name === '' ? shortHex(task.id) : task.name}
            </Link>
          ),
        },
        {
          key: 'state',
          head: t('state'),
          cell: (task) => <Tag tone={toneOf(task.state)}>{t(stateKey(task.state))}</Tag>,
        },
        {
          key: 'gpus',
          head: t('task.gpus'),
          cell: (task) =>
            task.terms.gpus === 0
              ? t('task.noGpu')
              : `${task.terms.gpus.toString()} × ${task.manifest.resources?.gpu_class ?? ''}`,
        },
        {
          key: 'limit',
          head: t('task.limit'),
          number: true,
          cell: (task) => shownSeconds(task.terms.max_seconds),
        },
        {
          key: 'cost',
          head: t('task.cost'),
          number: true,
          cell: (task) =>
            task.charge === null || task.charge === undefined ? (
              <span className="soft">
                ≤ <Amount units={BigInt(task.terms.max_charge)} />
              </span>
            ) : (
              <Amount units={BigInt(task.charge)} />
            ),
        },
        { key: 'when', head: t('task.created'), cell: (task) => <Moment ms={task.created_at_ms} /> },
      ]}
    />
  );
}
