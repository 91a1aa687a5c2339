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
              <text x={index * step + step / 2} y={HEIGHT - 6} textAnchor="middle">
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
