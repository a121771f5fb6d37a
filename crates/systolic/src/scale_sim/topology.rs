//! SCALE-Sim's topology files: a layer a row, as a convolution or as a matrix product.

use anychip_chips::Dataflow;

use super::ScaleSimError;

/// The layers of a file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Topology {
    /// In order.
    pub layers: Vec<Layer>,
}

/// A convolution without padding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// Its name.
    pub name: String,
    /// Height and width of the input.
    pub input: (u64, u64),
    /// Height and width of the window.
    pub window: (u64, u64),
    /// Channels of the input.
    pub channels: u64,
    /// Filters.
    pub filters: u64,
    /// Steps, down and across.
    pub strides: (u64, u64),
}

/// How a layer lies on an array: extents along rows of cells, along columns, and in time; and the folds of the first two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spread {
    /// What rows of cells share out.
    pub rows: u64,
    /// What columns of cells share out.
    pub columns: u64,
    /// What streams.
    pub time: u64,
}

impl Topology {
    /// Reads a file of convolutions: name, input height and width, window height and width, channels, filters, stride.
    pub fn parse_convolutions(text: &str) -> Result<Topology, ScaleSimError> {
        let mut topology = Topology::default();
        for (line, cells) in rows(text) {
            let number = |i: usize| number(&cells, i, line);
            let name = cells[0].clone();
            let layer = Layer {
                input: (number(1)?, number(2)?),
                window: (number(3)?, number(4)?),
                channels: number(5)?,
                filters: number(6)?,
                strides: (number(7)?, number(7)?),
                name,
            };
            layer.check(line)?;
            // Of a depthwise layer the peer makes one a channel.
            if layer.name.contains("DP") {
                for channel in 0..layer.channels {
                    let name = format!("{}Channel_{channel}", layer.name);
                    topology.layers.push(Layer { name, channels: 1, ..layer.clone() });
                }
            } else {
                topology.layers.push(layer);
            }
        }
        Ok(topology)
    }

    /// Reads a file of products: name, m, n, k.
    pub fn parse_products(text: &str) -> Result<Topology, ScaleSimError> {
        let mut topology = Topology::default();
        for (line, cells) in rows(text) {
            let (m, n, k) =
                (number(&cells, 1, line)?, number(&cells, 2, line)?, number(&cells, 3, line)?);
            topology.layers.push(Layer {
                name: cells[0].clone(),
                input: (m, k),
                window: (1, k),
                channels: 1,
                filters: n,
                strides: (1, 1),
            });
        }
        Ok(topology)
    }
}

/// Rows after the first that are not empty, with their lines.
fn rows(text: &str) -> impl Iterator<Item = (usize, Vec<String>)> {
    text.lines().enumerate().skip(1).filter_map(|(i, line)| {
        let cells: Vec<String> = line.split(',').map(|cell| cell.trim().to_owned()).collect();
        (!cells[0].is_empty()).then_some((i + 1, cells))
    })
}

fn number(cells: &[String], i: usize, line: usize) -> Result<u64, ScaleSimError> {
    let text = cells.get(i).map_or("", String::as_str);
    match text.parse::<u64>() {
        Ok(number) if (1..=1 << 24).contains(&number) => Ok(number),
        _ => Err(ScaleSimError::Topology {
            line,
            reason: format!("`{text}` in column {} is no number from 1", i + 1),
        }),
    }
}

impl Layer {
    fn check(&self, line: usize) -> Result<(), ScaleSimError> {
        let fits = self.window.0 <= self.input.0 && self.window.1 <= self.input.1;
        if fits {
            return Ok(());
        }
        Err(ScaleSimError::Topology {
            line,
            reason: "the window is larger than the input".to_owned(),
        })
    }

    /// Height and width of the result, rounded up as the peer does: a window that reaches over the edge counts.
    pub fn result(&self) -> (u64, u64) {
        let along =
            |input: u64, window: u64, stride: u64| (input - window + stride).div_ceil(stride);
        (
            along(self.input.0, self.window.0, self.strides.0),
            along(self.input.1, self.window.1, self.strides.1),
        )
    }

    /// Places of the result.
    pub fn places(&self) -> u64 {
        let (height, width) = self.result();
        height * width
    }

    /// Elements of a window.
    pub fn depth(&self) -> u64 {
        self.window.0 * self.window.1 * self.channels
    }

    /// Multiply-accumulates.
    pub fn macs(&self) -> u64 {
        self.places() * self.filters * self.depth()
    }

    /// Elements of the input that some window holds.
    pub fn distinct_inputs(&self) -> u64 {
        let along = |count: u64, window: u64, stride: u64, input: u64| -> u64 {
            (0..count)
                .map(|i| window.min(stride).min(input.saturating_sub(i * stride)))
                .sum::<u64>()
                + count.checked_sub(1).map_or(0, |last| {
                    let rest = input.saturating_sub(last * stride);
                    window.min(rest) - window.min(stride).min(rest)
                })
        };
        let (height, width) = self.result();
        along(height, self.window.0, self.strides.0, self.input.0)
            * along(width, self.window.1, self.strides.1, self.input.1)
            * self.channels
    }

    /// How the layer lies on an array.
    pub fn spread(&self, dataflow: Dataflow) -> Spread {
        let (places, filters, depth) = (self.places(), self.filters, self.depth());
        match dataflow {
            Dataflow::WeightStationary => Spread { rows: depth, columns: filters, time: places },
            Dataflow::InputStationary => Spread { rows: depth, columns: places, time: filters },
            Dataflow::OutputStationary => Spread { rows: places, columns: filters, time: depth },
        }
    }

    /// Where the peer has an element of a window in its memory; `None` beyond the edge.
    pub(super) fn address(&self, place: u64, element: u64) -> Option<u64> {
        let width = self.result().1;
        let (row, column) = (place / width * self.strides.0, place % width * self.strides.1);
        let per_row = self.window.1 * self.channels;
        let (r, rest) = (element / per_row, element % per_row);
        let (c, channel) = (rest / self.channels, rest % self.channels);
        let inside = r + row < self.input.0 && c + column < self.input.1;
        inside.then(|| ((row + r) * self.input.1 + column + c) * self.channels + channel)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_of_file() {
        let conv = "Layer, ih, iw, fh, fw, c, n, s,\nA, 14, 14, 1, 1, 8, 16, 2,\n\nbDP, 4, 4, 3, 3, 2, 1, 1,\n";
        let found = Topology::parse_convolutions(conv).unwrap().layers;
        assert_eq!(found.len(), 3);
        // (14 − 1 + 2) / 2 rounded up: the peer has a row and a column that no window starts in.
        assert_eq!((found[0].result(), found[0].depth()), ((8, 8), 8));
        assert_eq!(found[0].address(8 * 8 - 1, 0), None);
        assert_eq!(found[1].name, "bDPChannel_0");
        let gemm = Topology::parse_products("Layer,M,N,K,\nx,3,4,5,\n").unwrap().layers;
        assert_eq!((gemm[0].places(), gemm[0].filters, gemm[0].depth()), (3, 4, 5));
    }

    #[test]
    fn rows_that_are_no_layers() {
        let message = |row: &str| {
            Topology::parse_convolutions(&format!("head\n{row}\n")).unwrap_err().to_string()
        };
        assert_eq!(
            message("A, 4, 4, 5, 1, 1, 1, 1,"),
            "line 2 of the topology: the window is larger than the input"
        );
        assert_eq!(
            message("A, 4, x, 1"),
            "line 2 of the topology: `x` in column 3 is no number from 1"
        );
        assert_eq!(
            message("A, 4, 4, 1, 1, 1, 0, 1"),
            "line 2 of the topology: `0` in column 7 is no number from 1"
        );
    }
}
