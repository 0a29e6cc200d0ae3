/** Files in and out: safetensors, ONNX, tokenizers and configurations. Nothing here computes. */
package org.sentei.format;
