/** EASIER (2404.18949): activations that do nothing are found, made linear, and the layers round them merged. */
package org.sentei.method.easier;
