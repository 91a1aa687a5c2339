import { useInfiniteQuery } from '@tanstack/react-query';
import { Link } from '@tanstack/react-router';
import { useState } from 'react';
import { NeedsLogIn } from '~/app/gates';
import { Fault } from '~/components/asking';
import { Button, Empty, Loading, Page, SelectField, TableCard } from '~/components/parts';
import { useT } from '~/lib/i18n';
import { useWallet } from '~/lib/wallet/useWallet';
import { myTasks } from './queries';
import { stateKey } from './state';
import { TaskTable } from './TaskTable';

const STATES = ['running', 'funded', 'finished', 'settled', 'failed', 'cancelled', 'refunded'] as const;

export function TasksPage() {
  const t = useT();
  return (
    <Page
      title={t('tasks.title')}
      lead={t('tasks.lead')}
      actions={
        <Link to="/tasks/new" className="button button-main">
          {t('task.new')}
        </Link>
      }
    >
      <NeedsLogIn why={t('tasks.why')}>
        <Tasks />
      </NeedsLogIn>
    </Page>
  );
}

function Tasks() {
  const t = useT();
  const { address } = useWallet();
  const [state, setState] = useState('');
  const tasks = useInfiniteQuery({
    queryKey: ['tasks', address, 'list', state],
    queryFn: ({ pageParam }) => myTasks(pageParam, state),
    initialPageParam: undefined as string | undefined,
    getNextPageParam: (page) => page.next_cursor ?? undefined,
    refetchInterval: 4_000,
  });
  const found = tasks.data?.pages.flatMap((page) => page.items) ?? [];
  return (
    <TableCard
      title={t('tasks.yours')}
      action={
        <SelectField label={t('state')} value={state} onValue={setState}>
          <option value="">{t('market.any')}</option>
          {STATES.map((name) => (
            <option key={name} value={name}>
              {t(stateKey(name))}
            </option>
          ))}
        </SelectField>
      }
    >
      {tasks.isError ? (
        <Fault fault={tasks.error} onRetry={() => void tasks.refetch()} />
      ) : tasks.isPending ? (
        <div className="empty">
          <Loading />
        </div>
      ) : found.length === 0 ? (
        <Empty
          title={state === '' ? t('tasks.none') : t('tasks.noneInState')}
          action={
            state === '' ? (
              <Link to="/tasks/new" className="button button-main">
                {t('task.new')}
              </Link>
            ) : (
              <Button onClick={() => setState('')}>{t('market.clear')}</Button>
            )
          }
        >
          {state === '' ? t('tasks.noneText') : undefined}
        </Empty>
      ) : (
        <>
          <TaskTable tasks={found} />
          {tasks.hasNextPage ? (
            <div className="empty">
              <Button onClick={() => void tasks.fetchNextPage()}>{t('more')}</Button>
            </div>
          ) : null}
        </>
      )}
    </TableCard>
  );
}
