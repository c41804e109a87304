// A ramp from dark blue over green to yellow whose lightness only rises, so that it reads in any colour vision.
const RAMP = [[38, 20, 72], [46, 60, 120], [40, 101, 130], [32, 140, 128], [74, 178, 103], [164, 208, 58], [253, 231, 37]];

function rampAt(share) {
  const { before, after, share: rest } = between(share * (RAMP.length - 1), RAMP.length);
  return RAMP[before].map((value, i) => Math.round(value + (RAMP[after][i] - value) * rest));
}

// 256 colours as the four bytes of a pixel; the least similar places let the photograph through
const PIXELS = new Uint32Array(256);
const BYTES = new Uint8Array(PIXELS.buffer);
PIXELS.forEach((_, i) => BYTES.set([...rampAt(i / 255), 255 * (0.35 + (0.65 * i) / 255)], 4 * i));

function paint(canvas, cosines, target, range) {
  canvas.width = target.width;
  canvas.height = target.height;
  const context = canvas.getContext("2d");
  const image = context.createImageData(target.width, target.height);
  const pixels = new Uint32Array(image.data.buffer);
  const steps = 255 / (range.most - range.least || 1);
  for (let i = 0; i < pixels.length; i += 1) pixels[i] = PIXELS[Math.round((cosines[i] - range.least) * steps)];
  context.putImageData(image, 0, 0);
}
