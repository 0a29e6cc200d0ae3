/**
 * Training: networks that are trained to an exact budget, from a recipe and a folder of data to a folder with the network, its
 * report and its curves.
 */
package org.sentei.engine.training;
