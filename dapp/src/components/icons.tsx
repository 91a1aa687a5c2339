// Line icons, drawn here: no font and no third party. Each is decoration beside words.

const PATHS = {
  home: 'M3 10.5 12 3l9 7.500V21h-6v-6H9v6H3z',
  market: 'M4 20V10m5.300 10V4m5.400 16v-7M20 20V7',
  explorer: 'M10.500 18a7.500 7.500 0 1 1 0-15 7.500 7.500 0 0 1 0 15zM16 16l5 5',
  money: 'M3 7h15a3 3 0 0 1 3 3v8a2 2 0 0 1-2 2H5a2 2 0 0 1-2-2zm0 0 12-4v4m2 7.500h.01',
  tasks: 'M4 5h16M4 12h16M4 19h10',
  apps: 'M4 4h6.500v6.500H4zM13.500 4H20v6.500h-6.500zM4 13.500h6.500V20H4zM13.500 13.500H20V20h-6.500z',
  costs: 'M5 3h14v18l-3-2-2 2-2-2-2 2-2-2-3 2zM9 8h6M9 12h6',
  keys: 'M14 10a5 5 0 1 0-4 4.900V17h2.500v2.500H15V22h4v-4l-5.300-5.300A5 5 0 0 0 14 10zM8 9h.01',
  copy: 'M9 9h11v11H9zM5 15H4V4h11v1',
  done: 'M5 12.500 10 17.500 19 7',
  wrong: 'M6 6l12 12M18 6 6 18',
  open: 'M12 7v6m0 4h.01',
  close: 'M6 6l12 12M18 6 6 18',
  out: 'M14 4h6v6M20 4l-9 9M18 14v6H4V6h6',
  delegate: 'M12 20v-9m0 0c0-4 3-6 7-6 0 4-3 6-7 6zm0 3c0-3-2.500-5-6-5 0 3.500 2.500 5 6 5z',
  provider: 'M4 5h16v6H4zM4 13h16v6H4zM8 8h.01M8 16h.01',
} as const;

export type IconName = keyof typeof PATHS;

export function Icon({ name }: { name: IconName }) {
  return (
    <svg
      viewBox="0 0 24 24"
      fill="none"
      stroke="currentColor"
      strokeWidth="1.8"
      strokeLinecap="round"
      strokeLinejoin="round"
      aria-hidden="true"
    >
      <path d={PATHS[name]} />
    </svg>
  );
}

/** The two halves of a split stick: their notches match. */
export function Mark() {
  return (
    <svg viewBox="0 0 32 32" aria-hidden="true">
      <rect width="32" height="32" rx="7" fill="#0f5f52" />
      <path
        d="M6 21.500h3v-4h2.500v4h3v-7H17v7h3v-4h2.500v4H26V24H6zM6 10.500h3v-2h2.500v2h3v-2H17v2h3v-2h2.500v2H26V12H6z"
        fill="#fff"
      />
    </svg>
  );
}
