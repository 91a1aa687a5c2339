import { Link, Outlet, useLocation, type ErrorComponentProps } from '@tanstack/react-router';
import { useEffect } from 'react';
import { Fault } from '~/components/asking';
import { Icon, Mark, type IconName } from '~/components/icons';
import { Choices, Empty, Page } from '~/components/parts';
import { useLanguage, useT, type Language, type MessageKey } from '~/lib/i18n';
import { useTheme, type Theme } from '~/lib/theme';
import { AwayBar } from './AwayBar';
import { WalletButton } from './WalletButton';

const PAGES = [
  { to: '/', key: 'nav.home', icon: 'home' },
  { to: '/market', key: 'nav.market', icon: 'market' },
  { to: '/explorer', key: 'nav.explorer', icon: 'explorer' },
  { to: '/apps', key: 'nav.apps', icon: 'apps' },
  { to: '/tasks', key: 'nav.tasks', icon: 'tasks' },
  { to: '/money', key: 'nav.money', icon: 'money' },
  { to: '/costs', key: 'nav.costs', icon: 'costs' },
  { to: '/keys', key: 'nav.keys', icon: 'keys' },
  { to: '/provide', key: 'nav.provide', icon: 'provider' },
  { to: '/delegate', key: 'nav.delegate', icon: 'delegate' },
] as const satisfies readonly { to: string; key: MessageKey; icon: IconName }[];

export function Shell() {
  const t = useT();
  const { pathname } = useLocation();
  // On a phone the row of pages is wider than the screen: the one that is shown stays in sight. Not by
  // scrollIntoView, after which Chromium begins there with the next Tab, past the link to the content.
  useEffect(() => {
    const shown = document.querySelector('.nav [aria-current=page]');
    const row = shown?.parentElement;
    if (!shown || !row) return;
    const [inner, outer] = [shown.getBoundingClientRect(), row.getBoundingClientRect()];
    row.scrollBy(inner.left + inner.width / 2 - outer.left - outer.width / 2, 0);
  }, [pathname]);
  return (
    <>
      <a className="skip button" href="#main">
        {t('skip')}
      </a>
      <div className="shell">
        <div className="side">
          <Brand />
          <nav className="nav" aria-label={t('nav')}>
            {PAGES.map((page) => (
              <Link
                key={page.to}
                to={page.to}
                className="nav-link"
                activeOptions={{ exact: page.to === '/' }}
                activeProps={{ 'aria-current': 'page' }}
              >
                <Icon name={page.icon} />
                {t(page.key)}
              </Link>
            ))}
          </nav>
          <div className="side-foot">
            <Looks />
          </div>
        </div>
        <div className="main">
          <header className="top">
            <Brand />
            <WalletButton />
          </header>
          <AwayBar />
          <main id="main" tabIndex={-1}>
            <Outlet />
          </main>
        </div>
      </div>
    </>
  );
}

function Brand() {
  return (
    <Link to="/" className="brand">
      <Mark />
      Tallystick
    </Link>
  );
}

/** Language and theme; on a phone they stand in the account dialog. */
export function Looks() {
  const { t, language, setLanguage } = useLanguage();
  const [theme, setTheme] = useTheme();
  const themes: { value: Theme; label: string }[] = [
    { value: 'system', label: t('theme.system') },
    { value: 'light', label: t('theme.light') },
    { value: 'dark', label: t('theme.dark') },
  ];
  const languages: { value: Language; label: string }[] = [
    { value: 'en', label: 'English' },
    { value: 'zh', label: '中文' },
  ];
  return (
    <div className="stack-s">
      <Choices label={t('language')} value={language} options={languages} onValue={setLanguage} />
      <Choices label={t('theme')} value={theme} options={themes} onValue={setTheme} />
    </div>
  );
}

export function NotFoundPage() {
  const t = useT();
  return (
    <Page title={t('notFound.title')}>
      <section className="card">
        <Empty
          title={t('notFound.title')}
          action={
            <Link to="/" className="button button-main">
              {t('notFound.act')}
            </Link>
          }
        >
          {t('notFound.text')}
        </Empty>
      </section>
    </Page>
  );
}

export function PageFault({ error, reset }: ErrorComponentProps) {
  const t = useT();
  return (
    <Page title={t('fault.title')}>
      <Fault fault={error} onRetry={reset} />
    </Page>
  );
}
