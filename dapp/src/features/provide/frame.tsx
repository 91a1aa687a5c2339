// The provider's five pages, side by side.

import { Link } from '@tanstack/react-router';
import type { ReactNode } from 'react';
import { Page } from '~/components/parts';
import { useT, type MessageKey } from '~/lib/i18n';

const PAGES = [
  { to: '/provide', key: 'provide.start' },
  { to: '/provide/gpus', key: 'provide.gpus' },
  { to: '/provide/tasks', key: 'provide.tasks' },
  { to: '/provide/earnings', key: 'provide.earnings' },
  { to: '/provide/stake', key: 'provide.stake' },
] as const satisfies readonly { to: string; key: MessageKey }[];

export function ProvideFrame({
  title,
  lead,
  children,
}: {
  title: string;
  lead: string;
  children: ReactNode;
}) {
  const t = useT();
  return (
    <Page title={title} lead={lead}>
      <nav className="tabs" aria-label={t('provide.pages')}>
        {PAGES.map((page) => (
          <Link
            key={page.to}
            to={page.to}
            className="tab"
            activeOptions={{ exact: true }}
            activeProps={{ 'aria-current': 'page' }}
          >
            {t(page.key)}
          </Link>
        ))}
      </nav>
      {children}
    </Page>
  );
}
