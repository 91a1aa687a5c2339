// An answer that is awaited, an answer that is a refusal, and the answer: the three faces of every query.

import type { UseQueryResult } from '@tanstack/react-query';
import type { ReactNode } from 'react';
import { ApiProblem, BackendAway } from '~/lib/api';
import { useT } from '~/lib/i18n';
import { Button, Loading, Note } from './parts';

export function Asked<Data>(props: { query: UseQueryResult<Data>; children: (data: Data) => ReactNode }) {
  const { query } = props;
  if (query.data !== undefined) return <>{props.children(query.data)}</>;
  if (query.isError) return <Fault fault={query.error} onRetry={() => void query.refetch()} />;
  return <Loading />;
}

export function Fault({ fault, onRetry }: { fault: unknown; onRetry?: () => void }) {
  const t = useT();
  const retry =
    onRetry === undefined ? null : (
      <Button className="button-small" onClick={onRetry}>
        {t('retry')}
      </Button>
    );
  if (fault instanceof ApiProblem) {
    return (
      <Note tone="bad" title={fault.title}>
        {[fault.detail, fault.nextStep].filter((part) => part !== '').join(' ')} {retry}
      </Note>
    );
  }
  return (
    <Note tone="bad" title={fault instanceof BackendAway ? t('away.title') : t('fault.title')}>
      {fault instanceof BackendAway
        ? t('fault.away')
        : fault instanceof Error
          ? fault.message
          : String(fault)}{' '}
      {retry}
    </Note>
  );
}
