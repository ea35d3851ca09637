// Small pictures of image files, made one at a time so that only one large one is in memory.

const SIDE = 224;

let last = Promise.resolve();

/** Return the address of a small picture of the file, or null if the browser cannot show it. */
export function thumbnail(file) {
  const made = last.then(() => draw(file)).catch(() => null);
  last = made;
  return made;
}

async function draw(file) {
  const bitmap = await createImageBitmap(file);
  try {
    const factor = Math.min(1, SIDE / Math.max(bitmap.width, bitmap.height));
    const canvas = document.createElement("canvas");
    canvas.width = Math.max(1, Math.round(bitmap.width * factor));
    canvas.height = Math.max(1, Math.round(bitmap.height * factor));
    const context = canvas.getContext("2d");
    // Encoders see transparent pixels as white.
    context.fillStyle = "#fff";
    context.fillRect(0, 0, canvas.width, canvas.height);
    context.imageSmoothingQuality = "high";
    context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
    const blob = await new Promise((resolve) => canvas.toBlob(resolve));
    return blob && URL.createObjectURL(blob);
  } finally {
    bitmap.close();
  }
}
