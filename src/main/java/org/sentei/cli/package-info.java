/** The command line: options in, engine calls, one document or readable text out. The only package that prints. */
package org.sentei.cli;
