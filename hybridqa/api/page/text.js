// Offsets and excerpts of long texts.

// The service counts Unicode code points, JavaScript UTF-16 units: an emoji is one there, two here.
export function unitIndex(text, points) {
  let unit = 0;
  for (let left = points; left > 0 && unit < text.length; left -= 1) unit += text.codePointAt(unit) > 0xffff ? 2 : 1;
  return unit;
}

const isLow = (unit) => unit >= 0xdc00 && unit <= 0xdfff;

// Moves an index off the middle of a pair, so that no character is cut in two.
export function onCharacter(text, unit) {
  const at = Math.min(Math.max(0, unit), text.length);
  return at < text.length && isLow(text.charCodeAt(at)) ? at - 1 : at;
}

// The part of `size` units that has `start` a third down.
export function around(text, start, size) {
  const first = Math.max(0, Math.min(start - Math.floor(size / 3), text.length - size));
  return [onCharacter(text, first), onCharacter(text, first + size)];
}
