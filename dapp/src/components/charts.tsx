// Drawn here, as SVG: no script of a chart library, no inline style. What a chart shows stands in a table beside it.

export interface BarPoint {
  label: string;
  value: number;
  title: string;
}

const WIDTH = 640;
const HEIGHT = 180;
const FOOT = 22;

export function Bars({ points, label }: { points: readonly BarPoint[]; label: string }) {
  const most = Math.max(...points.map((point) => point.value), Number.MIN_VALUE);
  const step = WIDTH / Math.max(points.length, 1);
  const every = Math.ceil(points.length / 8);
  return (
    <svg
      className="chart"
      viewBox={`0 0 ${WIDTH.toString()} ${HEIGHT.toString()}`}
      role="img"
      aria-label={label}
    >
      {[0.25, 0.5, 0.75].map((part) => (
        <line
          key={part}
          className="grid"
          x1="0"
          x2={WIDTH}
          y1={(HEIGHT - FOOT) * part}
          y2={(HEIGHT - FOOT) * part}
        />
      ))}
      {points.map((point, index) => {
        const height = point.value === 0 ? 0 : Math.max(2, ((HEIGHT - FOOT - 8) * point.value) / most);
        return (
          <g key={point.label}>
            <rect
              className="bar"
              x={index * step + step * 0.15}
              y={HEIGHT - FOOT - height}
              width={step * 0.7}
              height={height}
              rx="2"
            >
              <title>{point.title}</title>
            </rect>
            {index % every === 0 ? (
              <text
                x={index === 0 ? 0 : index * step + step / 2}
                y={HEIGHT - 6}
                textAnchor={index === 0 ? 'start' : 'middle'}
              >
                {point.label}
              </text>
            ) : null}
          </g>
        );
      })}
      <line className="axis" x1="0" x2={WIDTH} y1={HEIGHT - FOOT} y2={HEIGHT - FOOT} />
    </svg>
  );
}

export interface LinePoint {
  atMs: number;
  value: number;
}

/** One reading over time; gaps stay gaps, so that a reading nobody could take is not drawn as zero. */
export function Line({
  points,
  label,
  most,
}: {
  points: readonly (LinePoint | null)[];
  label: string;
  most?: number;
}) {
  const known = points.filter((point) => point !== null);
  const first = known[0]?.atMs ?? 0;
  const span = Math.max(1, (known.at(-1)?.atMs ?? 1) - first);
  const top = most ?? Math.max(1, ...known.map((point) => point.value)) * 1.1;
  const x = (point: LinePoint) => ((point.atMs - first) / span) * WIDTH;
  const y = (point: LinePoint) => LINE_HEIGHT - 4 - ((LINE_HEIGHT - 12) * point.value) / top;
  let path = '';
  let drawing = false;
  for (const point of points) {
    if (point !== null) path += `${drawing ? 'L' : 'M'}${x(point).toFixed(1)} ${y(point).toFixed(1)}`;
    drawing = point !== null;
  }
  return (
    <svg
      className="chart"
      viewBox={`0 0 ${WIDTH.toString()} ${LINE_HEIGHT.toString()}`}
      role="img"
      aria-label={label}
    >
      <line className="grid" x1="0" x2={WIDTH} y1={LINE_HEIGHT / 2} y2={LINE_HEIGHT / 2} />
      <line className="axis" x1="0" x2={WIDTH} y1={LINE_HEIGHT - 2} y2={LINE_HEIGHT - 2} />
      <path className="line" d={path} />
    </svg>
  );
}

const LINE_HEIGHT = 110;
